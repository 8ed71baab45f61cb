"""Int8 of single layers in a float ONNX graph: arithmetic in float32, on values that int8 can hold."""

from collections.abc import Iterator, Mapping

import numpy as np
import numpy.typing as npt
import onnx
from onnx import GraphProto, NodeProto, TensorProto, helper, numpy_helper

from tasks.optimizer.onnx_layers import Layer

_LEVELS = 255
_LARGEST = 127
_LEAST_SCALE = 1e-9
"""For tensors of zeros: anything but 0, which they would be divided by."""
_FUSED = frozenset({"Relu", "Clip"})
"""What int8 kernels compute with the layer: the range of its output is the one behind these."""

Ranges = Mapping[str, tuple[float, float]]
"""The least and the largest value of a tensor, by name."""


def activations(graph: GraphProto, layer: Layer) -> tuple[str, ...]:
    """Return the values that int8 of a layer rounds: what its nodes read, and what they return."""
    weights = {initializer.name for initializer in graph.initializer}
    read = [name for node in layer.nodes for name in node.input[:2] if name not in weights]
    return tuple(dict.fromkeys([*read, *(_returned(graph, node) for node in layer.nodes)]))


def quantized(model: onnx.ModelProto, layer: Layer, ranges: Ranges) -> onnx.ModelProto:
    """Return a copy of a graph in which one layer computes with what int8 can hold, everything else with float32.

    U8S8: activations uint8 per tensor between their least and largest value, weights int8 per channel, symmetric.

    Source: https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html#quantization-overview
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    names = {node.name for node in layer.nodes}
    outputs = {_returned(model.graph, node) for node in layer.nodes}
    weights = {initializer.name: initializer for initializer in copy.graph.initializer}
    nodes: list[NodeProto] = []
    for node in copy.graph.node:
        if node.name in names:
            for position, name in enumerate(node.input[:2]):
                if name in weights:
                    _round_weight(weights[name], _channel_axis(node))
                else:
                    nodes.extend(_rounding(copy.graph, name, f"{name}/{node.name}/{position}", ranges[name]))
                    node.input[position] = f"{name}/{node.name}/{position}"
        nodes.append(node)
        for position, name in enumerate(node.output):
            if name in outputs:
                node.output[position] = f"{name}/float"
                nodes.extend(_rounding(copy.graph, f"{name}/float", name, ranges[name]))
    del copy.graph.node[:]
    copy.graph.node.extend(nodes)
    return copy


def watched(model: onnx.ModelProto, names: tuple[str, ...]) -> onnx.ModelProto:
    """Return a copy of a graph that also returns the ends of tensors' ranges, as ``NAME/min`` and ``NAME/max``."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for name in names:
        for kind in ("Min", "Max"):
            output = f"{name}/{kind.lower()}"
            copy.graph.node.append(helper.make_node(f"Reduce{kind}", [name], [output], keepdims=0))
            copy.graph.output.append(helper.make_tensor_value_info(output, TensorProto.FLOAT, []))
    return copy


def _returned(graph: GraphProto, node: NodeProto) -> str:
    """The value that a layer hands on: behind the activation that is computed with it, if nothing else reads it."""
    name = node.output[0]
    readers = [one for one in graph.node if name in one.input]
    last = any(value.name == name for value in graph.output)
    return readers[0].output[0] if len(readers) == 1 and not last and readers[0].op_type in _FUSED else name


def _rounding(graph: GraphProto, name: str, rounded: str, limits: tuple[float, float]) -> Iterator[NodeProto]:
    low, high = min(limits[0], 0.0), max(limits[1], 0.0)
    scale = max((high - low) / _LEVELS, _LEAST_SCALE)
    zero = min(round(-low / scale), _LEVELS)
    graph.initializer.extend(
        (
            numpy_helper.from_array(np.array(scale, np.float32), f"{rounded}/scale"),
            numpy_helper.from_array(np.array(zero, np.uint8), f"{rounded}/zero"),
        )
    )
    parameters = [f"{rounded}/scale", f"{rounded}/zero"]
    yield helper.make_node("QuantizeLinear", [name, *parameters], [f"{rounded}/int8"])
    yield helper.make_node("DequantizeLinear", [f"{rounded}/int8", *parameters], [rounded])


def _channel_axis(node: NodeProto) -> int:
    """The axis of a weight's output channels."""
    if node.op_type == "Gemm":
        transposed = any(one.name == "transB" and one.i for one in node.attribute)
        return 0 if transposed else 1
    return {"Conv": 0, "ConvTranspose": 1}.get(node.op_type, -1)


def _round_weight(initializer: TensorProto, axis: int) -> None:
    weight: npt.NDArray[np.float32] = numpy_helper.to_array(initializer)
    others = tuple(one for one in range(weight.ndim) if one != axis % weight.ndim)
    scale = np.maximum(np.abs(weight).max(axis=others, keepdims=True) / _LARGEST, _LEAST_SCALE)
    rounded = np.clip(np.rint(weight / scale), -_LARGEST, _LARGEST) * scale
    initializer.CopyFrom(numpy_helper.from_array(rounded.astype(np.float32), initializer.name))
