"""The whole life of a model of a tenant other than ``default``, beside another tenant's of the same name."""

from collections.abc import Iterator
from dataclasses import replace

import mlflow
import pytest

from burnish.client import Client
from burnish.errors import RemoteError
from burnish.examples.digits import Split, train_digits
from tests.e2e.conftest import Pusher
from tests.e2e.stack import StackUnderTest
from tests.integration.processes import wait_for

pytestmark = pytest.mark.slow

MODEL = "digits_"
"""A name that BentoML would not take as it is."""
QUICKEST = {"passes": ["export_onnx"], "runtimes": ["torch_export", "onnxruntime"]}


def client_of(stack: StackUnderTest, tenant: str) -> Client:
    """A client with a key of a new tenant."""
    assert stack.run("tenant", "add", tenant).code == 0
    made = stack.run("key", "add", "--tenant", tenant, "--scope", "deploy", "--scope", "predict")
    assert made.code == 0, made.err
    key = made.out.strip()
    return Client(stack.url("control_port"), stack.url("gateway_port"), api_key=key)


@pytest.fixture(scope="module")
def acme(stack: StackUnderTest) -> Iterator[Client]:
    with client_of(stack, "acme") as found:
        yield found


@pytest.fixture(scope="module")
def globex(stack: StackUnderTest) -> Iterator[Client]:
    with client_of(stack, "globex-") as found:
        yield found


def refusal(client: Client, split: Split, model: str) -> str:
    with pytest.raises(RemoteError) as refused:
        client.predict(model, {"image": split.evaluation_x[:1]})
    return str(refused.value)


def test_a_tenants_model_goes_the_whole_way_and_no_other_tenant_sees_it(
    stack: StackUnderTest, acme: Client, globex: Client, pusher: Pusher, split: Split
) -> None:
    first = replace(pusher, client=acme, config=QUICKEST)(train_digits(epochs=8), MODEL)
    assert first.released, first
    answered = acme.predict(MODEL, {"image": split.evaluation_x[:3]})
    assert (answered.model, answered.version) == (MODEL, first.version)
    mlflow.set_tracking_uri(stack.url("mlflow_port"))
    assert mlflow.MlflowClient().get_model_version_by_alias(f"acme.{MODEL}", "champion").version == "1"

    assert refusal(globex, split, MODEL).replace(MODEL, "nobody") == refusal(globex, split, "nobody")
    assert (globex.models(), globex.optimizations()) == ((), ())
    with pytest.raises(RemoteError, match="404"):
        globex.optimization(first.id)
    other = replace(pusher, client=globex, config=QUICKEST)(train_digits(epochs=12), MODEL)
    assert other.released, other
    assert globex.predict(MODEL, {"image": split.evaluation_x[:3]}).artifact != answered.artifact

    served = []
    for start in range(0, 400, 8):
        sent = acme.predict(MODEL, {"image": split.train_x[start : start + 8]})
        acme.feedback(MODEL, sent.request_id, split.train_y[start : start + 8].tolist())
        served.append(sent.request_id)
    stack.await_captured(f"acme.{MODEL}", served)
    acme.monitor(MODEL)
    wait_for(lambda: bool(acme.drift_reports(MODEL)), "the drift report", 120)
    assert (acme.drift_reports(MODEL)[0].model, globex.drift_reports(MODEL)) == (MODEL, ())
    acme.retrain(MODEL)
    wait_for(lambda: len(acme.optimizations(MODEL)) > 1, "the optimization of the new model", 400)
    (new,) = [one for one in acme.optimizations(MODEL) if one.id != first.id]
    assert acme.wait(new.id, timeout_s=400).released
    assert acme.rollback(MODEL).champion == first.version
    assert acme.predict(MODEL, {"image": split.evaluation_x[:3]}).artifact == answered.artifact


def test_a_running_search_is_cancelled_with_all_that_it_started(
    stack: StackUnderTest, acme: Client, globex: Client, pusher: Pusher
) -> None:
    idle = stack.processes()
    versions = [found.number for found in acme.versions(MODEL).versions]
    started = replace(pusher, client=acme)(train_digits(epochs=14), MODEL, wait=False)
    wait_for(lambda: acme.optimization(started.id).candidates_done > 0, "a candidate to be measured", 300)
    with pytest.raises(RemoteError, match="404"):
        globex.cancel(started.id)
    acme.cancel(started.id)
    ended = acme.wait(started.id, timeout_s=120)
    assert (ended.state, ended.version) == ("cancelled", None)
    wait_for(lambda: stack.processes() <= idle, "all that the search started to be gone", 60)
    assert [found.number for found in acme.versions(MODEL).versions] == versions
    wait_for(lambda: acme.optimization(started.id).flow_run_state == "Cancelled", "the flow run to say so", 60)
