"""What the passes that quantize ONNX graphs share: fold and fuse first, find the layers left in float, count after."""

from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import onnx
from onnx import helper, numpy_helper
from onnxruntime.quantization.shape_inference import quant_pre_process

from registry.errors import CandidateError
from tasks.optimizer.base import Artifact, PassContext

Quantize = Callable[[Path, Path, list[str]], None]
"""Reads a prepared graph, writes a quantized one, leaves the named nodes in float."""

_IMAGE_AXES = ({2, 3}, {-2, -1})


def quantize_graph(
    artifact: Artifact, context: PassContext, excluded_layers: tuple[str, ...], made: frozenset[str], quantize: Quantize
) -> Artifact:
    """Prepare a graph, have it quantized, and check that something was.

    Args:
        artifact: an ONNX artifact.
        context: gives the workspace, where ``model.onnx`` is written.
        excluded_layers: names of ONNX nodes or paths of modules.
        made: types of operators that are in a quantized graph.
        quantize: does it.

    Raises:
        CandidateError: an excluded layer is not in the graph, or nothing could be quantized.
    """
    produced = Artifact(context.workspace, artifact.format, artifact.signature)
    with TemporaryDirectory(dir=context.workspace) as temporary:
        prepared = Path(temporary) / "prepared.onnx"
        prepare(artifact.file, prepared)
        quantize(prepared, produced.file, nodes_of_layers(prepared, excluded_layers, original=artifact.file))
    if not operators(produced.file) & made:
        kinds = ", ".join(sorted(operators(artifact.file)))
        raise CandidateError(f"no operator of this graph can be quantized in this way; it has {kinds}")
    return produced


def prepare(file: Path, prepared: Path) -> None:
    """Write a graph with constants folded, operators fused and the shape of every tensor noted.

    Symbolic shape inference is left out: it stops at operators that it does not know, and the shapes that plain ONNX
    inference finds were enough to quantize the same operators (seen on convolutional, recurrent and encoder networks).

    Source: https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html#pre-processing
    """
    quant_pre_process(str(file), str(prepared), skip_symbolic_shape=True)
    model = onnx.load(prepared)
    pool_images(model.graph)
    weights = {initializer.name for initializer in model.graph.initializer}
    shapes = [info for info in model.graph.value_info if info.name not in weights]
    del model.graph.value_info[:]
    model.graph.value_info.extend(shapes)  # shapes noted for weights are wrong as soon as the quantizer transposes one
    onnx.save(model, prepared)


def nodes_of_layers(file: Path, layers: tuple[str, ...], *, original: Path | None = None) -> list[str]:
    """Return the names of the nodes of each layer: of its own name, or with a weight below the module path.

    Args:
        file: the graph whose nodes are named.
        layers: names of ONNX nodes or paths of modules.
        original: the graph before constants were folded, which still tells where a folded weight came from.

    Raises:
        CandidateError: a layer has no node.
    """
    graphs = [onnx.load(path, load_external_data=False).graph for path in (file, original) if path is not None]
    present = [node.name for node in graphs[0].node]
    weights = [_weights_by_node(graph) for graph in graphs]
    found: list[str] = []
    for layer in layers:
        below = {
            node
            for known in weights
            for node, names in known.items()
            if any(name.startswith(f"{layer}.") for name in names)
        }
        nodes = [name for name in present if name == layer or name in below]
        if not nodes:
            raise CandidateError(
                f"the excluded layer {layer!r} is not in the graph; give the name of an ONNX node or a module's path"
            )
        found.extend(nodes)
    return found


def operators(file: Path) -> frozenset[str]:
    """Return the types of operators in a graph."""
    return frozenset(node.op_type for node in onnx.load(file, load_external_data=False).graph.node)


def _weights_by_node(graph: onnx.GraphProto) -> dict[str, frozenset[str]]:
    """Return the names of the weights that each node takes, also through nodes that compute with weights alone."""
    stored = {initializer.name: frozenset({initializer.name}) for initializer in graph.initializer}
    found: dict[str, frozenset[str]] = {}
    for node in graph.node:
        taken = [name for name in node.input if name]
        found[node.name] = frozenset().union(*(stored.get(name, frozenset()) for name in taken))
        if taken and all(name in stored for name in taken):
            stored.update(dict.fromkeys(node.output, found[node.name]))
    return found


def pool_images(graph: onnx.GraphProto) -> None:
    """Write the mean over an image as a pooling, which can be computed in int8 where a mean cannot."""
    constants = {initializer.name: initializer for initializer in graph.initializer}
    ranks = {info.name: len(info.type.tensor_type.shape.dim) for info in graph.value_info}
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        nodes.extend(_pooling(node) if _is_image_mean(node, constants, ranks) else [node])
    del graph.node[:]
    graph.node.extend(nodes)


def _is_image_mean(node: onnx.NodeProto, constants: dict[str, onnx.TensorProto], ranks: dict[str, int]) -> bool:
    if node.op_type != "ReduceMean" or len(node.input) != 2 or ranks.get(node.input[0]) != 4:
        return False
    axes = constants.get(node.input[1])
    return axes is not None and set(numpy_helper.to_array(axes).tolist()) in _IMAGE_AXES


def _pooling(node: onnx.NodeProto) -> Iterator[onnx.NodeProto]:
    keeps = all(attribute.i for attribute in node.attribute if attribute.name == "keepdims")
    pooled = node.output[0] if keeps else f"{node.output[0]}_pooled"
    yield helper.make_node("GlobalAveragePool", [node.input[0]], [pooled], name=f"{node.name}_pool")
    if not keeps:
        yield helper.make_node("Flatten", [pooled], [node.output[0]], name=node.name)
