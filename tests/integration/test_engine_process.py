"""The engine as it runs: a real BentoML process with two workers, each with a door of its own."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import onnx
import psutil
import pyarrow.dataset as ds
import pytest
from onnx import TensorProto, helper

from registry.records.model import (
    ArtifactFormat,
    ArtifactRef,
    Datatype,
    PluginConfig,
    ServedVersion,
    Signature,
    TensorSpec,
)
from registry.records.release import CatalogEntry, TrafficSplit
from registry.store.artifacts_local import LocalArtifacts
from serving.engine.catalog import write_entry
from tests.integration.processes import free_pair, free_ports, wait_for

WAIT_SECONDS = 180.0
COMMAND = (sys.executable, "-P", "-m", "bentoml", "serve", "serving.doors.bento:EngineService")
SIGNATURE = Signature(
    inputs=(TensorSpec(name="x", datatype=Datatype.FP32, shape=(None, 2)),),
    outputs=(TensorSpec(name="y", datatype=Datatype.FP32, shape=(None, 2)),),
)
BODY = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [2, 2], "data": [[1, 2], [3, 4]]}]}


@dataclass(frozen=True)
class Engine:
    process: subprocess.Popen[bytes]
    home: Path
    doors: tuple[str, str]
    bento: str
    versions: tuple[ServedVersion, ...]

    def publish(
        self, generation: int, version: int, versions: tuple[ServedVersion, ...] = (), model: str = "m"
    ) -> None:
        split = TrafficSplit(weights={version: 100})
        known = versions or self.versions
        write_entry(
            self.home / "catalog", CatalogEntry(model=model, generation=generation, split=split, versions=known)
        )

    def states(self, model: str = "m") -> list[dict[str, Any]]:
        return [httpx.get(f"{door}/burnish/catalog").json()["models"].get(model, {}) for door in self.doors]


def until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain until {what}"
        time.sleep(0.05)


def ready(url: str, path: str = "/v2/health/ready") -> bool:
    try:
        return httpx.get(url + path).status_code == 200
    except httpx.TransportError:
        return False


def store_version(store: LocalArtifacts, folder: Path, number: int) -> ServedVersion:
    """Store the net ``y = number * x``."""
    graph = helper.make_graph(
        [helper.make_node("Mul", ["x", "scale"], ["y"])],
        "scaled",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 2])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 2])],
        [onnx.numpy_helper.from_array(np.array(number, np.float32), "scale")],
    )
    folder.mkdir()
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.save(model, folder / ArtifactFormat.ONNX.main_file)
    return ServedVersion(
        version=number,
        artifact=ArtifactRef(sha256=store.put(folder), format=ArtifactFormat.ONNX, size_bytes=1),
        runtime=PluginConfig(name="onnxruntime"),
        signature=SIGNATURE,
        batch_invariant=True,
    )


def start(home: Path, bento_port: int, door_port: int) -> subprocess.Popen[bytes]:
    environment = {
        **os.environ,
        "BENTOML_DO_NOT_TRACK": "true",
        "BENTOML_HOME": str(home / "bento"),
        "PYTHONSAFEPATH": "1",
        "BURNISH_ENGINE_CATALOG_FOLDER": str(home / "catalog"),
        "BURNISH_ENGINE_ARTIFACTS_FOLDER": str(home / "artifacts"),
        "BURNISH_ENGINE_CAPTURE_FOLDER": str(home / "capture"),
        "BURNISH_ENGINE_CAPTURE_RATE": "1",
        "BURNISH_ENGINE_DOOR_PORT": str(door_port),
        "BURNISH_ENGINE_WORKERS": "2",
    }
    working_folder = home / "empty"
    working_folder.mkdir()
    with (home / "engine.log").open("wb") as log:
        return subprocess.Popen(
            [*COMMAND, "--host", "127.0.0.1", "--port", str(bento_port)],
            env=environment,
            cwd=working_folder,
            stdout=log,
            stderr=subprocess.STDOUT,
        )


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    home = tmp_path_factory.mktemp("engine")
    store = LocalArtifacts(home / "artifacts")
    versions = tuple(store_version(store, home / f"net{number}", number) for number in (1, 2, 3))
    bento_port, door_port = free_ports(1)[0], free_pair()
    process = start(home, bento_port, door_port)
    doors = (f"http://127.0.0.1:{door_port}", f"http://127.0.0.1:{door_port + 10}")
    running = Engine(process, home, doors, f"http://127.0.0.1:{bento_port}", versions)
    running.publish(1, 1)
    running.publish(1, 3, model="other")
    try:
        until(lambda: all(map(ready, doors)) and ready(running.bento, "/readyz"), "the engine is ready")
        until(lambda: all(running.states("other")), "both models are known")
        yield running
    finally:
        stop(process)


def stop(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
        process.terminate()
        _, left = psutil.wait_procs(family, timeout=60)
        for survivor in left:
            survivor.kill()
    process.wait(30)


HURRIED = (({"parameters": {"timeout": "soon"}}, 400), ({"parameters": {"priority": -1}}, 400))


def test_every_door_and_the_bento_endpoint_answer_alike(engine: Engine) -> None:
    for door in engine.doors:
        for model, number in (("m", 1), ("other", 3)):
            reply = httpx.post(f"{door}/v2/models/{model}/infer", json=BODY).json()
            assert reply["model_version"] == str(number)
            assert reply["parameters"]["artifact"] == engine.versions[number - 1].artifact.sha256
            assert reply["outputs"][0]["data"] == [number, 2 * number, 3 * number, 4 * number]
    asked = {"model": "other", "inputs": {"x": [[1, 2]]}}
    reply = httpx.post(f"{engine.bento}/predict", json=asked).json()
    assert (reply["version"], reply["outputs"]) == (3, {"y": [[3, 6]]})
    assert httpx.post(f"{engine.bento}/predict", json={**asked, "version": 2}).json()["outputs"] == {"y": [[2, 4]]}
    theirs = httpx.post(f"{engine.bento}/predict", json=asked, headers={"x-burnish-tenant": "beta"})
    assert theirs.status_code == 404, "it is the tenant default's"
    for wrong, status in (({"inputs": {"x": [[1]]}}, 400), ({"version": 9}, 404), ({"model": "nobody"}, 404), *HURRIED):
        assert httpx.post(f"{engine.bento}/predict", json={**asked, **wrong}).status_code == status


def test_a_promotion_reaches_every_worker_and_no_request_is_lost(engine: Engine) -> None:
    seen: list[tuple[int, str, list[float]]] = []
    done = threading.Event()

    def ask(door: str) -> None:
        with httpx.Client() as client:
            while not done.is_set():
                reply = client.post(f"{door}/v2/models/m/infer", json=BODY)
                seen.append((reply.status_code, reply.json().get("model_version"), reply.json()["outputs"][0]["data"]))

    askers = [threading.Thread(target=ask, args=(door,)) for door in engine.doors]
    for asker in askers:
        asker.start()
    try:
        for generation, version in ((2, 2), (3, 1), (4, 2)):
            before = len(seen)
            engine.publish(generation, version)
            until(lambda wanted=generation: [s["generation"] for s in engine.states()] == [wanted] * 2, "both took it")  # type: ignore[misc]
            until(lambda count=before: len(seen) > count + 20, "requests went on")  # type: ignore[misc]
    finally:
        done.set()
        for asker in askers:
            asker.join()
    assert {status for status, _, _ in seen} == {200}
    assert {version for _, version, _ in seen} == {"1", "2"}
    assert all(data[0] == int(version) for _, version, data in seen)


def test_a_version_that_cannot_be_loaded_leaves_the_old_live(engine: Engine) -> None:
    lost = engine.versions[0].model_copy(
        update={"version": 7, "artifact": ArtifactRef(sha256="0" * 64, format=ArtifactFormat.ONNX, size_bytes=1)}
    )
    engine.publish(1, 1, model="third")
    until(lambda: all(state.get("generation") == 1 for state in engine.states("third")), "the first is taken")
    engine.publish(2, 7, (*engine.versions, lost), model="third")
    until(lambda: all(state["error"] for state in engine.states("third")), "the refusal is reported")
    for door, state in zip(engine.doors, engine.states("third"), strict=True):
        assert (state["generation"], state["champion"]) == (1, 1)
        assert "third version 7 cannot be loaded" in state["error"]
        assert httpx.post(f"{door}/v2/models/third/infer", json=BODY).json()["model_version"] == "1"


def test_requests_are_captured(engine: Engine) -> None:
    reply = httpx.post(f"{engine.doors[1]}/v2/models/m/infer", json=BODY, headers={"x-request-id": "captured-here"})
    version = int(reply.json()["model_version"])
    folder = engine.home / "capture" / "m"

    def rows() -> list[dict[str, Any]]:
        files = [str(path) for path in folder.glob("*.parquet")]
        table = ds.dataset(files).to_table(filter=ds.field("request_id") == "captured-here") if files else None
        return table.to_pylist() if table else []

    until(lambda: len(rows()) == 2, "the request is on disk")
    assert [row["input:x"] for row in rows()] == [[1, 2], [3, 4]]
    assert [row["output:y"] for row in rows()] == [[version, 2 * version], [3 * version, 4 * version]]
    assert {row["version"] for row in rows()} == {version}


def test_a_killed_worker_comes_back_at_its_door_with_what_is_live(engine: Engine) -> None:
    states = [httpx.get(f"{door}/burnish/catalog").json() for door in engine.doors]
    assert [state["worker"] for state in states] == [0, 1]
    os.kill(states[0]["pid"], signal.SIGKILL)
    wait_for(lambda: not psutil.pid_exists(states[0]["pid"]), "the killed worker to be gone")
    assert httpx.post(f"{engine.doors[1]}/v2/models/m/infer", json=BODY).status_code == 200
    until(lambda: ready(engine.doors[0]), "the worker is back")
    again = httpx.get(f"{engine.doors[0]}/burnish/catalog").json()
    assert (again["worker"], again["models"]) == (0, states[1]["models"] | {"third": again["models"]["third"]})
    assert again["pid"] != states[0]["pid"]
    assert httpx.post(f"{engine.doors[0]}/v2/models/m/infer", json=BODY).status_code == 200
    assert httpx.post(f"{engine.doors[0]}/v2/models/third/infer", json=BODY).status_code == 503
    assert "cannot be loaded" in engine.states("third")[0]["error"], "a worker that never had the old says so"


def test_a_stop_leaves_no_process(engine: Engine) -> None:
    family = [psutil.Process(engine.process.pid), *psutil.Process(engine.process.pid).children(recursive=True)]
    assert len(family) >= 3
    engine.process.terminate()
    gone, left = psutil.wait_procs(family, timeout=60)
    assert left == []
    assert len(gone) == len(family)
    assert not any(map(ready, engine.doors))
