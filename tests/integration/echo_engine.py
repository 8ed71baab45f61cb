"""A running engine of one worker, with a model for each datatype that gives back what it gets."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import numpy as np
import onnx
import psutil
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
from registry.records.release import CatalogEntry, NonFinite, ServingPolicy, TrafficSplit
from registry.store.artifacts_local import LocalArtifacts
from serving.engine.catalog import write_entry
from tests.integration.processes import end_tree, free_pair, free_ports, wait_for

WAIT_SECONDS = 180.0
MAX_BODY_BYTES = 2_000_000
WIDTH = 4

_ONNX_TYPES = {
    Datatype.FP16: TensorProto.FLOAT16,
    Datatype.FP32: TensorProto.FLOAT,
    Datatype.FP64: TensorProto.DOUBLE,
    Datatype.BF16: TensorProto.BFLOAT16,
    Datatype.BYTES: TensorProto.STRING,
}


@dataclass(frozen=True)
class EchoEngine:
    """Where a running engine listens."""

    home: Path
    process: "subprocess.Popen[bytes]"
    rest: str
    """host:port"""
    grpc: str
    bento: str

    @property
    def url(self) -> str:
        """Of the REST door."""
        return f"http://{self.rest}"

    def held_bytes(self) -> int:
        """Memory that all its processes hold."""
        root = psutil.Process(self.process.pid)
        return sum(held_bytes(process.pid) for process in (root, *root.children(recursive=True)))


def held_bytes(pid: int) -> int:
    """Memory that a process holds, in the machine's memory or swapped out.

    Without the pages of files, of libraries for the most part: the machine takes and gives them as it likes.
    """
    lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    return sum(1024 * int(line.split()[1]) for line in lines if line.startswith(("RssAnon:", "VmSwap:")))


def name_of(datatype: Datatype) -> str:
    """The model that gives back tensors of a datatype."""
    return f"echo-{datatype.value.lower()}"


def _identity(datatype: Datatype) -> onnx.GraphProto:
    kind = _ONNX_TYPES.get(datatype) or TensorProto.DataType.Value(datatype.value)
    return helper.make_graph(
        [helper.make_node("Identity", ["x"], ["y"])],
        "echo",
        [helper.make_tensor_value_info("x", kind, ["n", WIDTH])],
        [helper.make_tensor_value_info("y", kind, ["n", WIDTH])],
    )


def _logarithms() -> onnx.GraphProto:
    weights = np.random.default_rng(1).random((WIDTH, WIDTH), np.float32)
    return helper.make_graph(
        [helper.make_node("MatMul", ["x", "weights"], ["sums"]), helper.make_node("Log", ["sums"], ["y"])],
        "logarithms",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", WIDTH])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", WIDTH])],
        [onnx.numpy_helper.from_array(weights, "weights")],
    )


def entry_of(
    store: LocalArtifacts, folder: Path, model: str, graph: onnx.GraphProto, datatype: Datatype = Datatype.FP32
) -> CatalogEntry:
    """Store a model and return its entry, with two versions of the same bytes."""
    folder.mkdir()
    saved = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    file = folder / ArtifactFormat.ONNX.main_file
    onnx.save(saved, file)
    size = file.stat().st_size
    sides = [TensorSpec(name=name, datatype=datatype, shape=(None, WIDTH)) for name in ("x", "y")]
    artifact = ArtifactRef(sha256=store.put(folder), format=ArtifactFormat.ONNX, size_bytes=size)
    versions = tuple(
        ServedVersion(
            version=number,
            artifact=artifact,
            runtime=PluginConfig(name="onnxruntime"),
            signature=Signature(inputs=(sides[0],), outputs=(sides[1],)),
            batch_invariant=True,
        )
        for number in (1, 2)
    )
    return CatalogEntry(model=model, generation=1, split=TrafficSplit(weights={1: 100}), versions=versions)


def _publish(home: Path) -> None:
    """Put a model of each datatype in the catalog; ``nan`` takes what is not finite, ``log`` computes."""
    store = LocalArtifacts(home / "artifacts")
    for datatype in Datatype:
        entry = entry_of(store, home / datatype.value, name_of(datatype), _identity(datatype), datatype)
        write_entry(home / "catalog", entry)
        if datatype is Datatype.FP32:
            policy = ServingPolicy(non_finite=NonFinite.PASS)
            write_entry(home / "catalog", entry.model_copy(update={"model": "nan", "policy": policy}))
    write_entry(home / "catalog", entry_of(store, home / "log", "log", _logarithms(), Datatype.FP32))


def _start(home: Path, bento_port: int, door_port: int) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-P", "-m", "bentoml", "serve", "serving.doors.bento:EngineService"]
    environment = {
        **os.environ,
        "BENTOML_DO_NOT_TRACK": "true",
        "BENTOML_HOME": str(home / "bento"),
        "PYTHONSAFEPATH": "1",
        "BURNISH_ENGINE_CATALOG_FOLDER": str(home / "catalog"),
        "BURNISH_ENGINE_ARTIFACTS_FOLDER": str(home / "artifacts"),
        "BURNISH_ENGINE_CAPTURE_FOLDER": str(home / "capture"),
        "BURNISH_ENGINE_CAPTURE_RATE": "0.01",
        "BURNISH_ENGINE_DOOR_PORT": str(door_port),
        "BURNISH_ENGINE_MAX_BODY_BYTES": str(MAX_BODY_BYTES),
        "BURNISH_ENGINE_WORKERS": "1",
    }
    working_folder = home / "empty"
    working_folder.mkdir()
    with (home / "engine.log").open("wb") as log:
        return subprocess.Popen(
            [*command, "--host", "127.0.0.1", "--port", str(bento_port)],
            env=environment,
            cwd=working_folder,
            stdout=log,
            stderr=subprocess.STDOUT,
        )


def _ready(url: str) -> bool:
    try:
        return httpx.get(url).status_code == 200
    except httpx.TransportError:
        return False


@contextmanager
def one_worker(home: Path) -> Iterator[EchoEngine]:
    """Start an engine of one worker over the catalog of a folder, wait until it answers, and stop it at the end."""
    bento_port, door_port = free_ports(1)[0], free_pair()
    process = _start(home, bento_port, door_port)
    rest, grpc, bento = f"127.0.0.1:{door_port}", f"127.0.0.1:{door_port + 1}", f"http://127.0.0.1:{bento_port}"
    engine = EchoEngine(home, process, rest, grpc, bento)
    try:
        wait_for(lambda: _ready(f"{engine.url}/v2/health/ready"), "the doors", WAIT_SECONDS)
        wait_for(lambda: _ready(f"{engine.bento}/readyz"), "the Bento endpoint", WAIT_SECONDS)
        yield engine
    finally:
        end_tree(process)


@pytest.fixture(scope="session")
def echo_engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EchoEngine]:
    """A running engine, one a test run."""
    home = tmp_path_factory.mktemp("echo")
    (home / "catalog").mkdir()
    _publish(home)
    with one_worker(home) as engine:
        yield engine
