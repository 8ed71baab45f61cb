"""Lift the layer calls of an exported program back into ``nn`` modules, for libraries that look for modules."""

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import fx, nn
from torch.export import ExportedProgram
from torch.nn.utils.fusion import fuse_conv_bn_eval

from registry.errors import CandidateError
from registry.records.model import Signature

aten = torch.ops.aten
Array = npt.NDArray[np.generic]

_CONVOLUTIONS: dict[Any, type[nn.Conv1d] | type[nn.Conv2d]] = {
    aten.conv1d.default: nn.Conv1d,
    aten.conv1d.padding: nn.Conv1d,
    aten.conv2d.default: nn.Conv2d,
    aten.conv2d.padding: nn.Conv2d,
}
_BATCH_NORMS = {2: nn.BatchNorm1d, 3: nn.BatchNorm1d, 4: nn.BatchNorm2d}
"""By rank of the input."""
_RESHAPES = (aten.flatten.using_ints, aten.reshape.default, aten.view.default)
_WEIGHTS = ("weight", "bias", "running_mean", "running_var")


@dataclass(frozen=True)
class Lifted:
    """A graph module that takes the program's tensors in order and returns a tuple of its results."""

    module: fx.GraphModule
    lifted: tuple[str, ...]
    """Paths of the modules that stand for layer calls now."""
    left: tuple[str, ...]
    """Calls with weights that stayed as they were, as ``operator(weight)``."""


@dataclass(frozen=True)
class _Layer:
    """One call of a layer: its arguments by the operator's own names, its weights by path."""

    node: fx.Node
    arguments: dict[str, Any]
    weights: dict[str, str]

    @property
    def key(self) -> str:
        """Equal for calls that one module can stand for."""
        rest = {name: value for name, value in self.arguments.items() if not isinstance(value, fx.Node)}
        return f"{self.node.target} {sorted(self.weights.items())} {sorted(rest.items())}"

    @property
    def path(self) -> str:
        """Where the module belongs: the module that held the weight."""
        weight = self.weights["weight"]
        return weight.removesuffix(".weight") if weight.endswith(".weight") else weight.removesuffix("_weight")


def lift(program: ExportedProgram) -> Lifted:
    """Return the program with its conv1d, conv2d, linear and batch_norm calls as modules in eval mode.

    A layer called twice becomes one module called twice. A weight that calls of different kinds share (an embedding
    tied to the output layer, say) stays a plain parameter and its calls stay as they were. Flattening written down as
    fixed sizes becomes ``flatten``, so that a layer before it may change its channels. Weights are shared with the
    program.
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
            call = graph.call_module(path, (_arguments(layer.node)["input"],))
        call.meta = layer.node.meta
        layer.node.replace_all_uses_with(call)
        graph.erase_node(layer.node)
    _free_flattening(graph)
    for node in list(graph.find_nodes(op="get_attr")):
        if not node.users:
            graph.erase_node(node)
    graph.set_codegen(fx.graph.CodeGen())
    return Lifted(
        fx.GraphModule(unlifted, graph).eval(), tuple(path for path, _ in modules.values()), tuple(_left(graph))
    )


def export_again(module: fx.GraphModule, signature: Signature, example: Mapping[str, Array]) -> ExportedProgram:
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


def save_program(program: ExportedProgram, file: Path) -> None:
    """Save a program without notes on where its nodes came from (paths, object ids): equal ones have equal bytes."""
    for graph_module in program.graph_module.modules():
        if isinstance(graph_module, fx.GraphModule):
            for node in graph_module.graph.nodes:
                node.meta.pop("stack_trace", None)
                node.meta.pop("from_node", None)
    torch.export.save(program, file)


def fold_batch_norms(module: fx.GraphModule) -> fx.GraphModule:
    """Fold every batch norm into the convolution that alone feeds it; change the module in place and return it."""
    calls = Counter(node.target for node in module.graph.find_nodes(op="call_module"))
    for node in list(module.graph.find_nodes(op="call_module")):
        source = node.args[0]
        norm = module.get_submodule(str(node.target))
        if not isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d) or not isinstance(source, fx.Node):
            continue
        convolution = module.get_submodule(str(source.target)) if source.op == "call_module" else None
        alone = len(source.users) == 1 and calls[source.target] == 1
        if isinstance(convolution, nn.Conv1d | nn.Conv2d) and alone:
            put_module(module, str(source.target), fuse_conv_bn_eval(convolution, norm))
            node.replace_all_uses_with(source)
            module.graph.erase_node(node)
    module.delete_all_unused_submodules()
    module.recompile()
    return module


def _liftable(graph: fx.Graph) -> list[_Layer]:
    """Return the calls that can become modules: known ones, whose weights nothing else uses in another way."""
    layers = [layer for node in graph.nodes if (layer := _layer(node)) is not None]
    ways: dict[str, set[str]] = {}
    for layer in layers:
        for weight in layer.weights.values():
            ways.setdefault(weight, set()).add(layer.key)
    known = {layer.node for layer in layers}
    for node in graph.find_nodes(op="get_attr"):
        if any(user not in known for user in node.users):
            ways.setdefault(str(node.target), set()).add("another use")
    return [layer for layer in layers if all(ways[weight] == {layer.key} for weight in layer.weights.values())]


def _layer(node: fx.Node) -> _Layer | None:
    known = node.target in _CONVOLUTIONS or node.target in (aten.linear.default, aten.batch_norm.default)
    if node.op != "call_function" or not known:
        return None
    arguments = _arguments(node)
    weights = {name: arguments[name] for name in _WEIGHTS if arguments.get(name) is not None}
    stored = all(isinstance(weight, fx.Node) and weight.op == "get_attr" for weight in weights.values())
    if "weight" not in weights or not stored or not isinstance(arguments["input"], fx.Node):
        return None
    if node.target is aten.batch_norm.default and not _is_plain_batch_norm(node, arguments):
        return None
    return _Layer(node, arguments, {name: str(weight.target) for name, weight in weights.items()})


def _is_plain_batch_norm(node: fx.Node, arguments: dict[str, Any]) -> bool:
    complete = all(arguments[name] is not None for name in _WEIGHTS)
    return complete and not arguments["training"] and node.meta["val"].dim() in _BATCH_NORMS


def _arguments(node: fx.Node) -> dict[str, Any]:
    """Return all arguments of an operator call by name, defaults included."""
    target = node.target
    assert isinstance(target, torch._ops.OpOverload)
    declared = target._schema.arguments
    given = dict(zip((argument.name for argument in declared), node.args, strict=False)) | dict(node.kwargs)
    return {argument.name: given.get(argument.name, argument.default_value) for argument in declared}


def _modules(root: nn.Module, graph: fx.Graph, layers: list[_Layer]) -> dict[str, tuple[str, nn.Module]]:
    """Return path and module by the key of their calls; a path that still holds something else gets a suffix."""
    used = {weight for layer in layers for weight in layer.weights.values()}
    staying = {str(node.target) for node in graph.find_nodes(op="get_attr") if node.users} - used
    found: dict[str, tuple[str, nn.Module]] = {}
    for layer in layers:
        if layer.key not in found:
            taken = any(name == layer.path or name.startswith(f"{layer.path}.") for name in staying)
            found[layer.key] = (f"{layer.path}_lifted" if taken else layer.path, _module(root, layer))
    return found


def _module(root: nn.Module, layer: _Layer) -> nn.Module:
    tensors = {name: attrgetter(path)(root) for name, path in layer.weights.items()}
    weight, arguments = tensors["weight"], layer.arguments
    built: nn.Module
    if layer.node.target in _CONVOLUTIONS:
        built = _convolution(_CONVOLUTIONS[layer.node.target], weight, arguments)
    elif layer.node.target is aten.batch_norm.default:
        norm = _BATCH_NORMS[layer.node.meta["val"].dim()]
        built = norm(len(weight), eps=arguments["eps"], momentum=arguments["momentum"])
    else:
        built = nn.Linear(weight.shape[1], weight.shape[0], bias="bias" in tensors, device="meta")
    for name, tensor in tensors.items():
        if name in dict(built.named_buffers()):
            setattr(built, name, tensor.detach())
        else:
            setattr(built, name, tensor if isinstance(tensor, nn.Parameter) else nn.Parameter(tensor, False))
    return built.eval()


def _convolution(kind: Callable[..., nn.Module], weight: torch.Tensor, arguments: dict[str, Any]) -> nn.Module:
    axes = weight.dim() - 2
    options = {}
    for name in ("stride", "padding", "dilation"):
        value = arguments[name]
        options[name] = value if isinstance(value, str) else tuple(value) * (axes if len(value) == 1 else 1)
    groups = arguments["groups"]
    bias = arguments["bias"] is not None
    kernel = tuple(weight.shape[2:])
    return kind(weight.shape[1] * groups, weight.shape[0], kernel, groups=groups, bias=bias, device="meta", **options)


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
