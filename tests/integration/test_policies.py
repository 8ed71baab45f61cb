"""What a model's policy and a request's own parameters do: one real engine, real ONNX models, no restart."""

# mypy: disable-error-code="no-untyped-call"

import json
import math
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import onnx
import pytest
import tritonclient.grpc as triton_grpc
from onnx import TensorProto, helper
from tritonclient.utils import InferenceServerException

from registry.records.release import CatalogEntry, NonFinite, ServingPolicy, TrafficSplit
from registry.store.artifacts_local import LocalArtifacts
from serving.engine.catalog import write_entry
from serving.runtime import Array
from tests.integration.echo_engine import WIDTH, EchoEngine, entry_of, one_worker
from tests.integration.processes import wait_for
from tests.integration.test_tritonclient import given

ROUNDS = 50_000
"""Of a loop, at least: too many to run on the engine's own event loop."""
LONG = 1_500_000.0
"""As an input, so many rounds more: a run that takes a second or two."""


def _loop() -> onnx.GraphProto:
    """``y = x``, which takes as many rounds more as the largest number of ``x`` says."""
    value, unknown = helper.make_tensor_value_info, TensorProto.FLOAT
    body = helper.make_graph(
        [
            helper.make_node("MatMul", ["before", "unit"], ["after"]),
            helper.make_node("Identity", ["go"], ["go_on"]),
        ],
        "round",
        [value("n", TensorProto.INT64, []), value("go", TensorProto.BOOL, []), value("before", unknown, None)],
        [value("go_on", TensorProto.BOOL, []), value("after", unknown, None)],
    )
    return helper.make_graph(
        [
            helper.make_node("ReduceMax", ["x"], ["most"], keepdims=0),
            helper.make_node("Cast", ["most"], ["more"], to=TensorProto.INT64),
            helper.make_node("Add", ["least", "more"], ["rounds"]),
            helper.make_node("Loop", ["rounds", "", "x"], ["y"], body=body),
        ],
        "slow",
        [value("x", TensorProto.FLOAT, ["n", WIDTH])],
        [value("y", TensorProto.FLOAT, ["n", WIDTH])],
        [
            onnx.numpy_helper.from_array(np.array(ROUNDS, np.int64), "least"),
            onnx.numpy_helper.from_array(np.eye(WIDTH, dtype=np.float32), "unit"),
        ],
    )


def _scaled(scale: float) -> onnx.GraphProto:
    """``y = scale * x``."""
    return helper.make_graph(
        [helper.make_node("Mul", ["x", "scale"], ["y"])],
        "scaled",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", WIDTH])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", WIDTH])],
        [onnx.numpy_helper.from_array(np.array(scale, np.float32), "scale")],
    )


@dataclass(frozen=True)
class PolicyEngine:
    """The engine, and the entry that each model began with."""

    at: EchoEngine
    entries: dict[str, CatalogEntry]

    def publish(self, model: str, generation: int, *, version: int = 1, **policy: Any) -> None:  # noqa: ANN401
        """Change a model's entry, and wait until it is in force."""
        changed = {
            "generation": generation,
            "split": TrafficSplit(weights={version: 100}),
            "policy": ServingPolicy(**policy),
        }
        write_entry(self.at.home / "catalog", self.entries[model].model_copy(update=changed))
        wait_for(lambda: self.told(f"/burnish/catalog/{model}")["generation"] == generation, "the new entry")

    def told(self, path: str) -> dict[str, Any]:
        found: dict[str, Any] = httpx.get(self.at.url + path).json()
        return found

    def ask(self, model: str, value: float = 1, **parameters: int) -> httpx.Response:
        """Ask over REST in JSON."""
        tensor = {"name": "x", "datatype": "FP32", "shape": [1, WIDTH], "data": [value] * WIDTH}
        document = {"inputs": [tensor], "parameters": parameters}
        return httpx.post(f"{self.at.url}/v2/models/{model}/infer", json=document, timeout=60)

    def ask_grpc(self, model: str, array: Array, **options: int) -> Any:  # noqa: ANN401 - the client has no types
        with triton_grpc.InferenceServerClient(self.at.grpc) as client:
            return client.infer(model, given(triton_grpc, array), **options)

    def metric(self, name: str, labels: str = "") -> int:
        """The sum of the series whose labels hold a text."""
        lines = httpx.get(f"{self.at.url}/metrics").text.splitlines()
        return sum(
            int(float(line.rpartition(" ")[2])) for line in lines if line.startswith(f"{name}{{") and labels in line
        )

    def await_waiting(self, model: str, count: int) -> None:
        """Wait until so many requests of a model wait for a run."""
        name, labels = "nv_inference_pending_request_count", f'model="{model}"'
        wait_for(lambda: self.metric(name, labels) == count, f"{count} waiting requests")


def _entries(home: Path) -> dict[str, CatalogEntry]:
    """Publish every model: version 2 of ``answers`` is other bytes than version 1."""
    store = LocalArtifacts(home / "artifacts")
    entries = {}
    slow = entry_of(store, home / "slow", "slow", _loop())
    alone = tuple(served.model_copy(update={"batch_invariant": False}) for served in slow.versions)
    entries["slow"] = slow.model_copy(update={"versions": alone})
    first, second = (entry_of(store, home / f"scaled{scale}", "answers", _scaled(scale)) for scale in (1, 2))
    entries["answers"] = first.model_copy(update={"versions": (first.versions[0], second.versions[1])})
    for entry in entries.values():
        write_entry(home / "catalog", entry)
    return entries


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PolicyEngine]:
    home = tmp_path_factory.mktemp("policies")
    entries = _entries(home)
    with one_worker(home) as at:
        running = PolicyEngine(at, entries)
        pid = running.told("/burnish/catalog")["pid"]
        yield running
        assert running.told("/burnish/catalog")["pid"] == pid, "no policy asked for a restart"


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(8) as threads:
        yield threads


def test_a_full_queue_turns_away_and_says_when_to_come_again(engine: PolicyEngine, pool: ThreadPoolExecutor) -> None:
    def asked_until_taken(value: float) -> httpx.Response:
        while (reply := engine.ask("slow", value)).status_code == 429:
            pass  # the one before it waits for its run
        return reply

    engine.publish("slow", 2, max_waiting=1)
    assert engine.ask("slow").status_code == 200
    asked = [pool.submit(asked_until_taken, LONG) for _ in range(2)]
    engine.await_waiting("slow", 1)
    refused = engine.ask("slow")
    assert (refused.status_code, int(refused.headers["retry-after"]) >= 1) == (429, True), refused.text
    assert refused.json() == {"error": "1 requests wait for this version already; try again shortly"}
    with pytest.raises(InferenceServerException) as refusal:
        engine.ask_grpc("slow", np.ones((1, WIDTH), np.float32))
    assert refusal.value.status() == "StatusCode.RESOURCE_EXHAUSTED"
    assert [one.result().json()["outputs"][0]["data"] for one in asked] == [[LONG] * WIDTH] * 2
    engine.publish("slow", 3)
    asked = [pool.submit(engine.ask, "slow") for _ in range(4)]
    assert [one.result().status_code for one in asked] == [200] * 4, "the policy is the new one"


def test_a_request_that_takes_longer_than_it_is_worth_is_answered_so(engine: PolicyEngine) -> None:
    before = engine.metric("nv_inference_request_failure", 'model="slow"')
    late = engine.ask("slow", timeout=1000)
    asked = {"model": "slow", "inputs": {"x": [[1] * WIDTH]}, "parameters": {"timeout": 1000}}
    assert httpx.post(f"{engine.at.bento}/predict", json=asked).status_code == 504
    assert late.status_code == 504, late.text
    assert "the time of the request" in late.json()["error"]
    with pytest.raises(InferenceServerException) as error:
        engine.ask_grpc("slow", np.ones((1, WIDTH), np.float32), timeout=1000)
    assert error.value.status() == "StatusCode.DEADLINE_EXCEEDED"
    assert engine.metric("nv_inference_request_failure", 'model="slow"') == before + 3
    assert engine.ask("slow", timeout=60_000_000).status_code == 200


def test_the_urgent_go_first(engine: PolicyEngine, pool: ThreadPoolExecutor) -> None:
    ended: list[str] = []

    def noted(asked: "Future[Any]", name: str) -> "Future[Any]":
        asked.add_done_callback(lambda _: ended.append(name))
        return asked

    routine = [noted(pool.submit(engine.ask, "slow", LONG, priority=9), "routine") for _ in range(3)]
    engine.await_waiting("slow", 2)
    urgent = noted(pool.submit(engine.ask_grpc, "slow", np.ones((1, WIDTH), np.float32), priority=1), "urgent")
    assert urgent.result().as_numpy("y").tolist() == [[1] * WIDTH]
    assert [one.result().status_code for one in routine] == [200] * 3
    assert ended[-1] == "routine", ended


def test_an_equal_request_is_answered_from_memory_until_another_version_is_promoted(engine: PolicyEngine) -> None:
    def hit(reply: httpx.Response) -> bool:
        assert reply.status_code == 200, reply.text
        assert reply.json()["outputs"][0]["data"] == [3 * float(reply.json()["model_version"])] * WIDTH
        return bool(reply.json()["parameters"].get("cache_hit", False))

    engine.publish("answers", 2, cache_mib=1)
    assert [hit(engine.ask("answers", 3)) for _ in range(2)] == [False, True]
    over_grpc = engine.ask_grpc("answers", np.full((1, WIDTH), 3, np.float32))
    assert (over_grpc.as_numpy("y").tolist(), over_grpc.get_response().parameters["cache_hit"].bool_param) == (
        [[3] * WIDTH],
        True,
    )
    (counted,) = engine.told("/v2/models/answers/versions/1/stats")["model_stats"]
    stats = counted["inference_stats"]
    assert [stats[name]["count"] for name in ("success", "cache_hit", "cache_miss")] == [3, 2, 1]
    assert (counted["inference_count"], counted["execution_count"]) == (1, 1)
    for generation, version in ((3, 2), (4, 1)):
        engine.publish("answers", generation, version=version, cache_mib=1)
        assert [hit(engine.ask("answers", 3)) for _ in range(2)] == [False, True]
    engine.publish("answers", 5)
    assert [hit(engine.ask("answers", 3)) for _ in range(2)] == [False, False]


def test_nan_is_refused_until_the_policy_lets_it_pass(engine: PolicyEngine) -> None:
    array = np.full((1, WIDTH), np.nan, np.float32)

    def refused() -> bool:
        try:
            return not np.isnan(engine.ask_grpc("answers", array).as_numpy("y")).all()
        except InferenceServerException as error:
            assert (error.status(), "not a finite number" in error.message()) == ("StatusCode.INVALID_ARGUMENT", True)
            return True

    def endpoint_refuses() -> bool:
        content = json.dumps({"model": "answers", "inputs": {"x": [[math.nan] * WIDTH]}})
        headers = {"content-type": "application/json"}
        return httpx.post(f"{engine.at.bento}/predict", content=content, headers=headers).status_code == 400

    found = []
    for generation, policy in ((6, NonFinite.REFUSE), (7, NonFinite.PASS), (8, NonFinite.REFUSE)):
        engine.publish("answers", generation, non_finite=policy)
        found += [refused(), endpoint_refuses()]
    assert found == [True, True, False, False, True, True]
