"""The layers of an ONNX graph: which nodes belong to which module of the source, and what may be quantized."""

from collections import Counter
from dataclasses import dataclass

import onnx
from onnx import GraphProto, NodeProto, TensorProto

QUANTIZABLE = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
"""Operators that compute in int8; the others pass values on or move them, and follow their neighbours."""


@dataclass(frozen=True)
class Layer:
    """One quantizable layer."""

    name: str
    """Path of the module, or name of the ONNX node."""
    operator: str
    nodes: tuple[NodeProto, ...]
    """More than one where nodes share a module."""


def weights_of_nodes(graph: GraphProto) -> list[tuple[str, ...]]:
    """Return the names of the weights that belong to each node, in the order of the nodes.

    A matrix product has those of the Add behind it: the exporter transposes the weight of a linear layer, which takes
    its name away, and keeps the bias.
    """
    weights = {initializer.name for initializer in graph.initializer}
    own = [tuple(name for name in node.input if name in weights) for node in graph.node]
    uses = _uses(graph)
    sums = {
        name: found
        for node, found in zip(graph.node, own, strict=True)
        if node.op_type == "Add"
        for name in node.input
        if name not in weights and uses[name] == 1
    }
    return [
        (*found, *sums.get(node.output[0], ())) if node.op_type == "MatMul" else found
        for node, found in zip(graph.node, own, strict=True)
    ]


def layer_name(node: NodeProto, weights: tuple[str, ...]) -> str:
    """Return the path of a node's module where the name of one of its weights tells it, else the node's name."""
    paths = (name.rpartition(".")[0] for name in weights)
    return next((path for path in paths if path), node.name)


def quantizable_layers(graph: GraphProto) -> tuple[Layer, ...]:
    """Return the layers of a prepared graph that compute float32 products, in topological order."""
    types = {info.name: info.type.tensor_type.elem_type for info in (*graph.input, *graph.value_info, *graph.output)}
    types |= {initializer.name: initializer.data_type for initializer in graph.initializer}
    found: dict[str, list[NodeProto]] = {}
    for node, weights in zip(graph.node, weights_of_nodes(graph), strict=True):
        if node.op_type in QUANTIZABLE and all(types.get(name) == TensorProto.FLOAT for name in node.input[:2]):
            found.setdefault(layer_name(node, weights), []).append(node)
    return tuple(Layer(name, nodes[0].op_type, tuple(nodes)) for name, nodes in found.items())


def name_nodes(model: onnx.ModelProto) -> None:
    """Give a node without a name that of its first output, so that it can be spoken of."""
    for node in model.graph.node:
        node.name = node.name or next(name for name in node.output if name)


def _uses(graph: GraphProto) -> Counter[str]:
    """How often each value is read; being an output of the graph counts."""
    read = Counter(name for node in graph.node for name in node.input)
    read.update(value.name for value in graph.output)
    return read
