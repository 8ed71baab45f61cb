"""Lift the layer calls of an exported program back into ``nn`` modules, for libraries that look for modules."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import fx, nn
from torch.export import ExportedProgram
from torch.utils import _pytree as pytree

from registry.errors import CandidateError
from registry.records.model import Signature
from tasks.optimizer.lifting_layers import LayerCall, layer_call
from tasks.optimizer.lifting_recurrent import nest_states

aten = torch.ops.aten
Array = npt.NDArray[np.generic]

_RESHAPES = (aten.flatten.using_ints, aten.reshape.default, aten.view.default)


@dataclass(frozen=True)
class Lifted:
    """A graph module that takes the program's tensors in order and returns a tuple of its results."""

    module: fx.GraphModule
    lifted: tuple[str, ...]
    """Paths of the modules that stand for layer calls now."""
    left: tuple[str, ...]
    """Calls with weights that stayed as they were, as ``operator(weight)``."""


def lift(program: ExportedProgram) -> Lifted:
    """Return the program with its layer calls as modules in eval mode.

    Layers are convolutions of one and two axes (plain, grouped, depthwise, transposed), linear ones, batch, layer and
    group norms, embeddings, LSTM and GRU; what is none of these stays a call. A layer called twice becomes one module
    called twice. A weight that calls of different kinds share (an embedding tied to the output layer, say) stays a
    plain parameter and its calls stay as they were. Flattening written down as fixed sizes becomes ``flatten``, so that
    a layer before it may change its channels. Weights are shared with the program.
    """
    unlifted = program.module(check_guards=False)
    graph = unlifted.graph
    layers = _liftable(graph)
    modules = _modules(unlifted, graph, layers)
    for path, module in modules.values():
        put_module(unlifted, path, module)
    for layer in layers:
        path = modules[layer.key][0]
        with graph.inserting_before(layer.node):
            call = graph.call_module(path, layer.inputs)
        call.meta = layer.node.meta
        layer.node.replace_all_uses_with(call)
        if isinstance(modules[layer.key][1], nn.LSTM):
            nest_states(call)
        graph.erase_node(layer.node)
    _free_flattening(graph)
    for node in list(graph.find_nodes(op="get_attr")):
        if not node.users:
            graph.erase_node(node)
    graph.set_codegen(fx.graph.CodeGen())
    return Lifted(
        fx.GraphModule(unlifted, graph).eval(), tuple(path for path, _ in modules.values()), tuple(_left(graph))
    )


def export_again(module: nn.Module, signature: Signature, example: Mapping[str, Array]) -> ExportedProgram:
    """Return a module as an exported program again; sizes that vary in the signature still do.

    Args:
        module: takes and returns tensors in the signature's order.
        signature: what sizes may vary.
        example: inputs by name, axis 0 the samples.

    Raises:
        CandidateError: it cannot be exported with these varying sizes.
    """
    tensors, varying = [], []
    for spec in signature.inputs:
        array = example[spec.name]
        twice = spec.shape[0] is None and len(array) == 1  # a single sample would be taken for a fixed size
        tensors.append(torch.from_numpy(np.concatenate([array, array]) if twice else np.array(array)))
        varying.append({axis: torch.export.Dim.DYNAMIC for axis, size in enumerate(spec.shape) if size is None})
    try:
        return torch.export.export(module, tuple(tensors), dynamic_shapes=tuple(varying))
    except (RuntimeError, ValueError) as error:
        raise CandidateError(f"the changed program cannot be exported again: {error}") from error


def example_inputs(program: ExportedProgram, signature: Signature) -> dict[str, Array]:
    """Return the inputs that a program was exported with, by name: enough to export it again without other samples."""
    assert program.example_inputs is not None  # torch.export.save keeps them, and a source without them is refused
    leaves = pytree.tree_leaves(program.example_inputs)
    return {spec.name: leaf.numpy() for spec, leaf in zip(signature.inputs, leaves, strict=True)}


def save_program(program: ExportedProgram, file: Path) -> None:
    """Save a program without notes on where its nodes came from (paths, object ids): equal ones have equal bytes."""
    for graph_module in program.graph_module.modules():
        if isinstance(graph_module, fx.GraphModule):
            for node in graph_module.graph.nodes:
                node.meta.pop("stack_trace", None)
                node.meta.pop("from_node", None)
    torch.export.save(program, file)


def _liftable(graph: fx.Graph) -> list[LayerCall]:
    """Return the calls that can become modules: known ones, whose weights nothing else uses in another way."""
    layers = [layer for node in graph.nodes if (layer := layer_call(node)) is not None]
    ways: dict[str, set[str]] = {}
    for layer in layers:
        for weight in layer.weights.values():
            ways.setdefault(weight, set()).add(layer.key)
    known = {layer.node for layer in layers}
    for node in graph.find_nodes(op="get_attr"):
        if any(user not in known for user in node.users):
            ways.setdefault(str(node.target), set()).add("another use")
    return [layer for layer in layers if all(ways[weight] == {layer.key} for weight in layer.weights.values())]


def _modules(root: nn.Module, graph: fx.Graph, layers: list[LayerCall]) -> dict[str, tuple[str, nn.Module]]:
    """Return path and module by the key of their calls; a path that still holds something else gets a suffix."""
    used = {weight for layer in layers for weight in layer.weights.values()}
    staying = {str(node.target) for node in graph.find_nodes(op="get_attr") if node.users} - used
    holding = [*staying, *{layer.key: layer.path for layer in layers}.values()]
    found: dict[str, tuple[str, nn.Module]] = {}
    for layer in layers:
        if layer.key not in found:
            inside = any(name.startswith(f"{layer.path}.") for name in holding)
            taken = inside or layer.path in staying or holding.count(layer.path) > 1
            found[layer.key] = (f"{layer.path}_lifted" if taken else layer.path, layer.module(root))
    return found


def put_module(root: nn.Module, path: str, module: nn.Module) -> None:
    """Set a module at a dotted path, in place of what is there."""
    parent, _, name = path.rpartition(".")
    owner: nn.Module = root
    for part in filter(None, parent.split(".")):
        if not isinstance(getattr(owner, part, None), nn.Module):
            owner.add_module(part, nn.Module())
        owner = owner.get_submodule(part)
    owner.__dict__.pop(name, None)
    owner.add_module(name, module)


def _free_flattening(graph: fx.Graph) -> None:
    """Write whatever only merges trailing axes as ``torch.flatten``."""
    for node in [node for target in _RESHAPES for node in graph.find_nodes(op="call_function", target=target)]:
        source = node.args[0]
        assert isinstance(source, fx.Node)
        before, after = source.meta["val"].shape, node.meta["val"].shape
        start = len(after) - 1
        merges = start >= 1 and len(before) > len(after) and [*map(str, before[:start])] == [*map(str, after[:start])]
        if merges and all(isinstance(size, int) for size in before[start:]) and math.prod(before[start:]) == after[-1]:
            node.target, node.args, node.kwargs = torch.flatten, (source, start), {}


def _left(graph: fx.Graph) -> Iterator[str]:
    """Name the calls that take a stored tensor themselves."""
    for node in graph.nodes:
        held = [source for source in node.all_input_nodes if source.op == "get_attr"]
        if node.op == "call_function" and held:
            yield f"{node.target}({held[0].target})"
