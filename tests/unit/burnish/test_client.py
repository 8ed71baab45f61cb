"""The client against the real application; only Prefect, the doors and the gateway are stand-ins."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from fastapi.testclient import TestClient

import burnish
from burnish.client import Client
from burnish.errors import InputError, RemoteError, RemoteUnreachable
from burnish.replies import Optimization
from flows.api_app import build_app
from registry.records.gate import GateDecision, RuleOutcome, Verdict
from registry.records.observation import DriftReport
from registry.records.release import OptimizationState
from tests import uploads
from tests.drafts import served
from tests.unit.burnish.bridge import CONTROL, GATEWAY, answer_with, by_host, to_app
from tests.unit.flows.api_stack import FakeStack, fake_stack

ARTIFACT = "a" * 64


def gateway(request: httpx.Request) -> httpx.Response:
    """Doubles ``x``; knows the model ``digits`` and its version 2."""
    if request.url.path in ("/v2/models/digits", "/v2/models/digits/versions/2"):
        return httpx.Response(200, json={"name": "digits", "inputs": [{"name": "x", "datatype": "FP32"}]})
    if request.url.path not in ("/v2/models/digits/infer", "/v2/models/digits/versions/2/infer"):
        return httpx.Response(404, json={"error": "there is no such model"})
    (tensor,) = json.loads(request.content)["inputs"]
    output = tensor | {"name": "y", "data": [2 * value for value in tensor["data"]]}
    return httpx.Response(
        200,
        json={
            "model_name": "digits",
            "model_version": "2",
            "id": "mine",
            "parameters": {"artifact": ARTIFACT, "request_id": "r1"},
            "outputs": [output],
        },
    )


@pytest.fixture
def stack(tmp_path: Path) -> FakeStack:
    return fake_stack(tmp_path / "home")


@pytest.fixture
def client(stack: FakeStack, monkeypatch: pytest.MonkeyPatch) -> Iterator[Client]:
    monkeypatch.setattr("burnish.client._POLL_S", 0.001)
    with TestClient(build_app(stack.platform)) as api, Client(CONTROL, GATEWAY) as made:
        answer_with(monkeypatch, by_host({CONTROL: to_app(api), GATEWAY: gateway}))
        yield made


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    paths = {"model": tmp_path / "net.onnx", "evaluation": tmp_path / "set.npz"}
    for path in paths.values():
        path.write_bytes(uploads.BY_SUFFIX[path.suffix])
    return paths


def test_push_uploads_starts_and_waits_until_refused(
    client: Client, stack: FakeStack, files: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    started = client.push_files(files["model"], "digits", files["evaluation"], config={"policy": "min_size"})
    request = stack.prefect.runs[0]["parameters"]["request"]
    assert request["config"]["policy"] == "min_size"
    assert [path.name for path in stack.platform.artifacts.checkout(request["source"]).iterdir()] == ["model.onnx"]
    assert (started.state, started.flow_run_url) == ("queued", None)

    ledger = stack.platform.ledger
    queued = ledger.optimization(started.id)
    outcome = RuleOutcome(
        rule="not_worse_than_champion", verdict=Verdict.FAIL, reason="12 losses", figures={"losses": 12}
    )
    refused = {"state": OptimizationState.REFUSED, "gate": GateDecision(outcomes=(outcome,)), "result": "d" * 64}
    steps: Iterator[dict[str, Any]] = iter([{"state": OptimizationState.RUNNING, "stage": "gate"}, refused])
    seen: list[Optimization] = []

    def on_update(found: Optimization) -> None:
        seen.append(found)
        if not found.finished:
            ledger.save_optimization(queued.model_copy(update=next(steps)))

    ended = client.wait(started.id, on_update)
    assert [found.state for found in seen] == ["queued", "running", "refused"]
    assert (ended.refused, ended.refusals[0].rule) == (True, "not_worse_than_champion")
    assert ended.refusals[0].figures == {"losses": 12}
    assert ended.report_url == f"{CONTROL}/v1/optimizations/{started.id}/report"
    assert ended.flow_run_state == "Scheduled"
    assert [found.id for found in client.optimizations("digits")] == [started.id]


def test_wait_has_a_bound(client: Client, files: dict[str, Path]) -> None:
    started = client.push_files(files["model"], "digits", files["evaluation"])
    with pytest.raises(RemoteError, match="is still queued after 0 s"):
        client.wait(started.id, timeout_s=0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_path": Path("net.pkl")}, "model: net.pkl must end in .pt2 or .onnx"),
        ({"evaluation": Path("gone.npz")}, "evaluation: there is no file gone.npz"),
        ({"calibration": Path("set.csv")}, "calibration: set.csv must end in"),
        ({"name": "No Such Name"}, "path.model"),
        ({"config": {"polcy": "min_size"}}, "polcy"),
    ],
)
def test_push_of_what_cannot_be_used_is_an_input_error(
    client: Client, stack: FakeStack, files: dict[str, Path], changes: dict[str, object], message: str
) -> None:
    arguments = {"model_path": files["model"], "name": "digits", "evaluation": files["evaluation"]} | changes
    with pytest.raises(InputError, match=message):
        client.push_files(**arguments)  # type: ignore[arg-type]
    assert stack.platform.ledger.optimizations() == ()


def test_versions_promote_and_rollback(client: Client, stack: FakeStack) -> None:
    stack.register()
    stack.register()
    assert client.promote("digits", 1, expected_generation=0).generation == 1
    release = client.promote("digits", 2)
    assert (release.champion, release.generation, release.acknowledged, release.pending) == (2, 2, (0, 1), ())
    found = client.versions("digits")
    assert (found.champion, found.generation, found.registry_unavailable) == (2, 2, None)
    second = found.versions[1]
    assert (second.number, second.share, second.recipe, second.runtime) == (
        2,
        100,
        ("export_onnx",),
        "onnxruntime(threads=1)",
    )
    assert second.metrics is not None
    assert second.metrics["latency_p50_ms"].low == 0.09
    assert client.rollback("digits").champion == 1
    assert [(model.name, model.champion, model.versions) for model in client.models()] == [("digits", 1, (1, 2))]


def test_what_the_registry_knows_is_none_while_it_is_down(client: Client, stack: FakeStack) -> None:
    stack.register()
    stack.store.down = True
    found = client.versions("digits")
    assert "MLflow does not answer" in str(found.registry_unavailable)
    assert (found.versions[0].recipe, found.versions[0].metrics, found.versions[0].created_at) == (None, None, None)


def test_traffic_is_split_and_read(client: Client, stack: FakeStack) -> None:
    stack.register()
    stack.register()
    assert client.traffic("digits").percentages == {}
    client.promote("digits", 1)
    assert client.set_traffic("digits", {1: 90, 2: 10}, expected_generation=1).generation == 2
    found = client.traffic("digits")
    assert (found.generation, found.champion, found.percentages) == (2, 1, {1: 90, 2: 10})
    with pytest.raises(InputError, match="sum to 100"):
        client.set_traffic("digits", {1: 90})


def test_models_are_searched_over_all_pages(client: Client, stack: FakeStack) -> None:
    for number in range(120):
        stack.platform.ledger.admit(f"net-{number:03d}", served(1))
    assert [model.name for model in client.models(contains="11")] == [f"net-{n:03d}" for n in (11, *range(110, 120))]
    assert len(client.models(prefix="net-")) == 120


def test_an_optimization_is_cancelled(client: Client, files: dict[str, Path]) -> None:
    started = client.push_files(files["model"], "digits", files["evaluation"])
    assert client.cancel(started.id).state == "cancelled"
    assert client.wait(started.id).finished
    with pytest.raises(RemoteError, match="has ended already"):
        client.cancel(started.id)


def test_a_conflict_is_a_remote_error_with_its_status(client: Client, stack: FakeStack) -> None:
    stack.register()
    with pytest.raises(RemoteError, match="generation") as caught:
        client.promote("digits", 1, expected_generation=5)
    assert caught.value.status == 409
    with pytest.raises(RemoteError) as caught:
        client.promote("digits", 9)
    assert caught.value.status == 404


def test_predict_takes_arrays_tensors_and_lists(client: Client) -> None:
    array = np.array([[1.5, 2]], np.float32)
    answer = client.predict("digits", {"x": array})
    np.testing.assert_array_equal(answer.outputs["y"], 2 * array)
    assert answer.outputs["y"].dtype == np.float32
    assert (answer.model, answer.version, answer.artifact, answer.request_id) == ("digits", 2, ARTIFACT, "r1")
    from_lists = client.predict("digits", {"x": [[1.5, 2]]}, version=2)
    np.testing.assert_array_equal(from_lists.outputs["y"], 2 * array)
    with pytest.raises(RemoteError, match="no such model"):
        client.predict("digits", {"x": array}, version=3)


def test_watching(client: Client, stack: FakeStack) -> None:
    stack.register()
    assert client.monitor("digits").url.endswith("/runs/flow-run/run-0")
    assert client.retrain("digits").id == "run-1"
    client.feedback("digits", "r1", np.array([3, 4]))
    assert stack.platform.ledger.feedback("digits")[0].labels == (3, 4)
    assert client.status().models == 1


def test_drift_reports_come_newest_first_with_their_page(client: Client, stack: FakeStack, tmp_path: Path) -> None:
    stack.register()
    assert client.drift_reports("digits") == ()
    page = tmp_path / "page"
    page.mkdir()
    (page / "drift.html").write_text("<h1>drift</h1>")
    digest = stack.platform.artifacts.put(page)
    for hour, drifted in ((1, False), (2, True)):
        stack.platform.ledger.add_drift_report(
            DriftReport(
                model="digits",
                version=1,
                created_at=datetime(2026, 1, 1, hour, tzinfo=UTC),
                requests=3,
                samples=30,
                columns=(),
                share_drifted=0.5,
                drifted=drifted,
                report=digest,
            )
        )
    newest, oldest = client.drift_reports("digits")
    assert (newest.drifted, oldest.drifted, newest.samples) == (True, False, 30)
    assert httpx.get(str(newest.report_url)).text == "<h1>drift</h1>"
    with pytest.raises(RemoteError, match="there is no model 'other'"):
        client.drift_reports("other")


def test_a_stack_that_is_not_up_is_said_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("burnish.remote.time.sleep", lambda _: None)
    answer_with(monkeypatch, by_host({}))
    with burnish.Client(CONTROL, GATEWAY) as client, pytest.raises(RemoteUnreachable, match="is the stack up"):
        client.status()
