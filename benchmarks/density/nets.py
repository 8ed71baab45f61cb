"""Nets by the thousand, distinct in their weights, in a real artifact store with a catalog beside it."""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from registry.records.model import (
    ArtifactFormat,
    ArtifactRef,
    Datatype,
    PluginConfig,
    ServedVersion,
    Signature,
    TensorSpec,
)
from registry.records.release import CatalogEntry, ServingPolicy, TrafficSplit
from registry.store.artifacts_local import LocalArtifacts
from serving.engine.catalog import write_entry

SMALL_WIDTHS = (16, 32, 32, 8)
"""A network of three layers that a request of sixteen floats asks."""

_WRITERS = 16
_MARK = "w0"
_FLOAT_BYTES = 4


@dataclass(frozen=True)
class Net:
    """One model to make: its name and the widths of its layers."""

    name: str
    widths: tuple[int, ...]
    pinned: bool = False


def small_nets(count: int, widths: tuple[int, ...] = SMALL_WIDTHS) -> list[Net]:
    """Name small networks of one graph."""
    return [Net(f"small-{number:05d}", widths) for number in range(count)]


def large_nets(count: int, smallest_mb: float, largest_mb: float) -> list[Net]:
    """Name networks whose weights grow from one size to another, in megabytes."""
    sizes = np.linspace(smallest_mb, largest_mb, count)
    return [Net(f"large-{number:02d}", (side, side, side)) for number, side in enumerate(map(_side, sizes))]


def publish(nets: Iterable[Net], home: Path) -> None:
    """Store every net that is not published yet and write its catalog entry; distinct weights, one after the other."""
    catalog, store = home / "catalog", LocalArtifacts(home / "artifacts")
    missing = [net for net in nets if not (catalog / f"{net.name}.json").is_file()]
    graphs = {widths: _graph(widths) for widths in {net.widths for net in missing}}

    def one(job: tuple[int, Net]) -> None:
        number, net = job
        folder = home / "made" / net.name
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / ArtifactFormat.ONNX.main_file
        file.write_bytes(graphs[net.widths].with_weights(number))
        write_entry(catalog, _entry(net, store.put(folder), file.stat().st_size))
        file.unlink()
        folder.rmdir()

    with ThreadPoolExecutor(_WRITERS) as writers:
        list(writers.map(one, enumerate(missing, start=1)))


@dataclass(frozen=True)
class _Graph:
    """A serialized net, and where the weights of its first layer stand in it."""

    content: bytes
    start: int
    count: int

    def with_weights(self, seed: int) -> bytes:
        weights = (np.random.default_rng(seed).standard_normal(self.count) / np.sqrt(self.count)).astype(np.float32)
        end = self.start + self.count * _FLOAT_BYTES
        return self.content[: self.start] + weights.tobytes() + self.content[end:]


def _graph(widths: tuple[int, ...]) -> _Graph:
    rng = np.random.default_rng(0)
    nodes, weights, value = [], [], "x"
    for layer, (rows, columns) in enumerate(pairwise(widths)):
        matrix = (rng.standard_normal((rows, columns)) / np.sqrt(rows)).astype(np.float32)
        weights.append(numpy_helper.from_array(matrix, f"w{layer}"))
        last = layer == len(widths) - 2
        nodes.append(helper.make_node("MatMul", [value, f"w{layer}"], ["y" if last else f"m{layer}"]))
        if not last:
            value = f"h{layer}"
            nodes.append(helper.make_node("Relu", [f"m{layer}"], [value]))
    graph = helper.make_graph(
        nodes,
        "dense",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", widths[0]])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", widths[-1]])],
        weights,
    )
    content = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10).SerializeToString()
    first = next(weight for weight in weights if weight.name == _MARK)
    return _Graph(content, content.index(first.raw_data), widths[0] * widths[1])


def _entry(net: Net, digest: str, size_bytes: int) -> CatalogEntry:
    version = ServedVersion(
        version=1,
        artifact=ArtifactRef(sha256=digest, format=ArtifactFormat.ONNX, size_bytes=size_bytes),
        runtime=PluginConfig(name="onnxruntime"),
        signature=Signature(
            inputs=(TensorSpec(name="x", datatype=Datatype.FP32, shape=(None, net.widths[0])),),
            outputs=(TensorSpec(name="y", datatype=Datatype.FP32, shape=(None, net.widths[-1])),),
        ),
        batch_invariant=True,
    )
    return CatalogEntry(
        model=net.name,
        generation=1,
        split=TrafficSplit(weights={1: 100}),
        versions=(version,),
        policy=ServingPolicy(pinned=net.pinned),
    )


def _side(megabytes: float) -> int:
    """The width of two square layers of a size."""
    return int(np.sqrt(megabytes * 1e6 / (2 * _FLOAT_BYTES)))
