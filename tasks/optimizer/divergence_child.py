"""The child process that compares a candidate's inner values with the source's, layer by layer, on one sample."""

from collections import deque
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import GraphProto, NodeProto, TensorProto

from registry.records.model import ArtifactFormat, PluginConfig, Signature
from serving.runtime import Array, Arrays, build_runtime
from tasks.optimizer.base import Artifact
from tasks.optimizer.divergence import DivergenceJob
from tasks.optimizer.evaluate import load_arrays
from tasks.optimizer.float_graph import float_graph
from tasks.optimizer.inner_values import Shown, show_values
from tasks.optimizer.isolation import answer
from tasks.optimizer.onnx_layers import QUANTIZABLE, layer_name, weights_of_nodes

TOLERANCE = 0.1
"""Root of the mean squared error of a layer's output, over its standard deviation.

Rounding to a step of range / 255 is noise of step / sqrt(12); a range of ten standard deviations makes it 1 %. Noise of
independent layers adds up as a root: a hundred layers of 1 % come to 10 %. So beyond it one layer lost more than three
bits, or something is wrong; and what float32, bfloat16 or int8 do when nothing is wrong stays below.

Source: Widrow and Kollar, "Quantization Noise", 2008 (rounding as uniform noise).
"""
_REFERENCE = PluginConfig(name="onnxruntime")


def compare_layers(job_json: dict[str, Any], workspace: Path) -> dict[str, Any]:
    """Return ``{"layer": name}`` of the first layer beyond tolerance, None if there is none or it cannot be told.

    Raises:
        CandidateError: source or product cannot be run with its inner values shown.
    """
    job = DivergenceJob.model_validate(job_json)
    with TemporaryDirectory(dir=workspace) as temporary:  # copies of the model, three of them
        return {"layer": _compare(job, Path(temporary))}


def _compare(job: DivergenceJob, workspace: Path) -> str | None:
    source, product = job.source.artifact, job.product.artifact
    model = float_graph(source, workspace)
    shown = show_values(product, _float_values(model.graph), workspace / "product")
    if not shown.names:
        return None
    reference = Artifact(workspace / "reference", ArtifactFormat.ONNX, source.signature)
    reference.folder.mkdir()
    onnx.save(model, reference.file)
    sample = _batch(load_arrays(Path(job.inputs)), source.signature)
    wanted = _run(_REFERENCE, show_values(reference, tuple(shown.names), workspace / "source"), sample)
    found = _run(job.runtime, shown, sample)
    if any(found[name].shape != value.shape for name, value in wanted.items()):
        return None
    return _first(model.graph, {name: _error(value, found[name]) for name, value in wanted.items()})


def _float_values(graph: GraphProto) -> tuple[str, ...]:
    """What the nodes of a graph return in float32, in topological order."""
    infos = (*graph.value_info, *graph.output)
    floats = {info.name for info in infos if info.type.tensor_type.elem_type == TensorProto.FLOAT}
    return tuple(name for node in graph.node for name in node.output if name in floats)


def _batch(sample: Arrays, signature: Signature) -> Arrays:
    """The sample as often as a signature with a fixed axis 0 takes it."""
    return {spec.name: np.repeat(sample[spec.name], spec.shape[0] or 1, axis=0) for spec in signature.inputs}


def _run(runtime: PluginConfig, shown: Shown, sample: Arrays) -> Arrays:
    """Values by the names that the source has for them."""
    artifact = shown.artifact
    session = build_runtime(runtime).load(artifact.folder, artifact.format, artifact.signature)
    outputs = session.run(sample)
    return {name: outputs[output] for name, output in shown.names.items()}


def _error(wanted: Array, found: Array) -> float:
    exact: npt.NDArray[np.float64] = wanted.astype(np.float64)
    apart = float(np.sqrt(np.mean((found.astype(np.float64) - exact) ** 2)))
    return apart / (float(exact.std()) or 1.0)


def _first(graph: GraphProto, errors: dict[str, float]) -> str | None:
    for node in graph.node:
        if any(not errors.get(name, 0.0) <= TOLERANCE for name in node.output):
            return _layer_behind(graph, node, errors)
    return None


def _layer_behind(graph: GraphProto, last: NodeProto, errors: dict[str, float]) -> str:
    """The layer that a value comes from: the nearest one ahead of it, but not ahead of a value that was in order."""
    producers = {name: node for node in graph.node for name in node.output}
    weights = {node.name: names for node, names in zip(graph.node, weights_of_nodes(graph), strict=True)}
    waiting = deque([last])
    while waiting:
        node = waiting.popleft()
        if node.op_type in QUANTIZABLE or layer_name(node, weights[node.name]) != node.name:
            return layer_name(node, weights[node.name])
        waiting.extend(producers[name] for name in node.input if name in producers and name not in errors)
    return last.name


if __name__ == "__main__":
    answer(compare_layers)
