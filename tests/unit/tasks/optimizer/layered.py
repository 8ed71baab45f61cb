"""A small ONNX network of named layers, one of which can be made hard to quantize, and its samples."""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from registry.records.model import ArtifactFormat
from serving.runtime import Arrays
from tasks.optimizer.base import Artifact
from tasks.optimizer.source_onnx import onnx_signature

LAYERS = ("first", "second", "third", "head")
_SHAPES = {"first": (8, 1, 3, 3), "second": (8, 8, 3, 3), "third": (8, 8, 3, 3), "head": (4, 8)}


def images(seed: int, count: int = 64) -> Arrays:
    """Random samples."""
    return {"image": np.random.default_rng(seed).normal(size=(count, 1, 6, 6)).astype(np.float32)}


def layered(folder: Path, *, uneven: str | None = None) -> Artifact:
    """Three convolutions and a linear layer; what goes into the uneven one differs by 4096 from channel to channel."""
    generator = np.random.default_rng(0)
    weights = {name: generator.normal(size=shape).astype(np.float32) / 3 for name, shape in _SHAPES.items()}
    if uneven:
        before = LAYERS[LAYERS.index(uneven) - 1]
        scale = np.where(np.arange(8) < 1, 4096, 1).astype(np.float32)
        weights[before] *= scale[:, None, None, None]
        weights[uneven] /= scale[None, :, None, None]
    nodes, value = [], "image"
    for name in LAYERS[:3]:
        nodes.append(helper.make_node("Conv", [value, f"{name}.weight"], [name], f"node_{name}", pads=[1, 1, 1, 1]))
        nodes.append(helper.make_node("Relu", [name], [f"{name}_relu"], f"node_{name}_relu"))
        value = f"{name}_relu"
    nodes += [
        helper.make_node("GlobalAveragePool", [value], ["pool"], "node_pool"),
        helper.make_node("Flatten", ["pool"], ["flat"], "node_flat"),
        helper.make_node("Gemm", ["flat", "head.weight"], ["logits"], "node_head", transB=1),
    ]
    x = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 1, 6, 6])
    y = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", 4])
    initializers = [numpy_helper.from_array(weight, f"{name}.weight") for name, weight in weights.items()]
    graph = helper.make_graph(nodes, "layered", [x], [y], initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    folder.mkdir(parents=True, exist_ok=True)
    onnx.save(model, str(folder / ArtifactFormat.ONNX.main_file))
    return Artifact(folder, ArtifactFormat.ONNX, onnx_signature(model))


def corrupted(artifact: Artifact, layer: str, folder: Path) -> Artifact:
    """A copy in which the weights of one layer, float or int8, stand in the wrong order."""
    model = onnx.load(artifact.file)
    weight = next(
        one for one in model.graph.initializer if one.name in (f"{layer}.weight", f"{layer}.weight_quantized")
    )
    values = numpy_helper.to_array(weight)
    weight.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(values[::-1]), weight.name))
    folder.mkdir(parents=True)
    onnx.save(model, str(folder / artifact.format.main_file))
    return Artifact(folder, artifact.format, artifact.signature)
