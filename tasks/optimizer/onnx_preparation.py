"""What both int8 passes for ONNX Runtime do first: fold and fuse the graph, and find the layers that stay in float."""

from pathlib import Path

import onnx
from onnxruntime.quantization.shape_inference import quant_pre_process

from registry.errors import CandidateError
from tasks.optimizer.onnx_layers import name_nodes, weights_of_nodes


def prepare(file: Path, prepared: Path) -> None:
    """Write a graph with constants folded, operators fused, the shape of every tensor noted and every node named.

    Symbolic shape inference is left out: it stops at operators that it does not know, and the shapes that plain ONNX
    inference finds were enough to quantize the same operators (seen on convolutional, recurrent and encoder networks).

    Source: https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html#pre-processing
    """
    quant_pre_process(str(file), str(prepared), skip_symbolic_shape=True)
    model = onnx.load(prepared)
    weights = {initializer.name for initializer in model.graph.initializer}
    shapes = [info for info in model.graph.value_info if info.name not in weights]
    del model.graph.value_info[:]
    model.graph.value_info.extend(shapes)  # shapes noted for weights are wrong as soon as the quantizer transposes one
    name_nodes(model)
    onnx.save(model, prepared)


def nodes_of_layers(file: Path, layers: tuple[str, ...]) -> list[str]:
    """Return the names of the nodes of each layer: of its own name, or with a weight below the module path.

    Raises:
        CandidateError: a layer has no node.
    """
    graph = onnx.load(file, load_external_data=False).graph
    weights = weights_of_nodes(graph)
    found: list[str] = []
    for layer in layers:
        nodes = [
            node.name
            for node, names in zip(graph.node, weights, strict=True)
            if node.name == layer or any(name.startswith(f"{layer}.") for name in names)
        ]
        if not nodes:
            raise CandidateError(
                f"the excluded layer {layer!r} is not in the graph; give the name of an ONNX node or a module's path"
            )
        found.extend(nodes)
    return found


def operators(file: Path) -> frozenset[str]:
    """Return the types of operators in a graph."""
    return frozenset(node.op_type for node in onnx.load(file, load_external_data=False).graph.node)
