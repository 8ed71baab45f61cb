"""Let an artifact return values from within its graph, so that any runtime that loads it computes them as it does."""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import onnx
import openvino
from onnx import GraphProto, TensorProto, helper

from registry.records.model import ArtifactFormat, Datatype, Signature, TensorSpec
from tasks.optimizer.base import Artifact


@dataclass(frozen=True)
class Shown:
    """An artifact with more outputs."""

    artifact: Artifact
    names: dict[str, str]
    """The name of the output that shows a value, by the value's name."""


def show_values(artifact: Artifact, names: Collection[str], folder: Path) -> Shown:
    """Write a copy of an ONNX model or OpenVINO IR that also returns those of the named float32 values that it has.

    Args:
        artifact: the model.
        names: of values; what the model does not have is left out.
        folder: a new folder for the copy.
    """
    folder.mkdir()
    target = Artifact(folder, artifact.format, artifact.signature)
    if artifact.format is ArtifactFormat.ONNX:
        shown = _show_in_onnx(artifact.file, names, target.file)
    else:
        shown = _show_in_openvino(artifact.file, names, target.file)
    returned = {spec.name for spec in artifact.signature.outputs}
    more = [name for name in dict.fromkeys(shown.values()) if name not in returned]
    specs = tuple(TensorSpec(name=name, datatype=Datatype.FP32, shape=()) for name in more)
    signature = Signature(inputs=artifact.signature.inputs, outputs=(*artifact.signature.outputs, *specs))
    return Shown(Artifact(folder, artifact.format, signature), shown)


def _show_in_onnx(file: Path, names: Collection[str], target: Path) -> dict[str, str]:
    model = onnx.load(file)
    inferred = onnx.shape_inference.infer_shapes(model).graph
    infos = (*inferred.value_info, *inferred.output)
    floats = {info.name for info in infos if info.type.tensor_type.elem_type == TensorProto.FLOAT}
    inner = {name for node in model.graph.node for name in node.output} & floats
    shown = {name: _rounded(model.graph, name) for name in names if name in inner}
    returned = {value.name for value in model.graph.output}
    for name in dict.fromkeys(shown.values()):
        if name not in returned:
            model.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, None))
    onnx.save(model, target)
    return shown


def _rounded(graph: GraphProto, name: str) -> str:
    """The value behind the rounding, where a value is only read to be rounded.

    Asked for the value itself, a runtime would compute the layer in float and round afterwards, with other kernels than
    those that it serves with.
    """
    readers = [node for node in graph.node if name in node.input]
    if [node.op_type for node in readers] != ["QuantizeLinear"]:
        return name
    back = [node for node in graph.node if readers[0].output[0] in node.input]
    return back[0].output[0] if back and back[0].op_type == "DequantizeLinear" else name


def _show_in_openvino(file: Path, names: Collection[str], target: Path) -> dict[str, str]:
    model = openvino.Core().read_model(str(file))
    inner = {
        name
        for operation in model.get_ops()
        if operation.get_type_name() not in ("Parameter", "Constant", "Result")
        for output in operation.outputs()
        if output.get_element_type() == openvino.Type.f32
        for name in output.get_names()
    }
    returned = {name for output in model.outputs for name in output.get_names()}
    shown = {name: name for name in names if name in inner}
    model.add_outputs([name for name in shown if name not in returned])
    openvino.save_model(model, str(target), compress_to_fp16=False)
    return shown
