"""Layer calls of an exported program: what they were given, and the ``nn`` module that computes the same."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

import torch
from torch import Tensor, fx, nn

from tasks.optimizer.lifting_recurrent import RECURRENT, recurrent_module, recurrent_weights

aten = torch.ops.aten
Tensors = Mapping[str, Tensor]
Arguments = Mapping[str, Any]

_BATCH_NORMS = {2: nn.BatchNorm1d, 3: nn.BatchNorm1d, 4: nn.BatchNorm2d}
"""By rank of the input."""
_WEIGHTS = ("weight", "bias", "running_mean", "running_var")


@dataclass(frozen=True)
class LayerCall:
    """One call of a layer: its arguments by the operator's own names, its weights by path."""

    node: fx.Node
    arguments: dict[str, Any]
    weights: dict[str, str]
    """Paths of the stored tensors by the names that they have in a module."""

    @property
    def key(self) -> str:
        """Equal for calls that one module can stand for."""
        rest = {name: value for name, value in self.arguments.items() if name not in _FLOWING and _is_plain(value)}
        return f"{self.node.target} {sorted(self.weights.items())} {sorted(rest.items())}"

    @property
    def path(self) -> str:
        """Where the module belongs: the module that held the first weight."""
        name, weight = next(iter(self.weights.items()))
        owner, _, attribute = weight.rpartition(".")
        if owner and attribute == name:
            return owner
        return weight.removesuffix("_weight") if weight.endswith("_weight") else f"{weight}_lifted"

    @property
    def inputs(self) -> tuple[Any, ...]:
        """What the module is called with now: the tensor, for a recurrent layer its first states as well."""
        arguments = _arguments(self.node)
        flowing = [arguments[name] for name in _FLOWING if name in arguments]
        return tuple(tuple(value) if isinstance(value, list | tuple) else value for value in flowing)

    def module(self, root: nn.Module) -> nn.Module:
        """Return the layer in eval mode, sharing the weights that a root module stores."""
        tensors = {name: attrgetter(path)(root) for name, path in self.weights.items()}
        built = _KINDS[self.node.target](tensors, self.arguments)
        for name, tensor in tensors.items():
            if name in dict(built.named_buffers()):
                setattr(built, name, tensor.detach())
            else:
                setattr(built, name, tensor if isinstance(tensor, nn.Parameter) else nn.Parameter(tensor, False))
        return built.eval()


_FLOWING = ("input", "indices", "hx")
"""Arguments that change from call to call."""


def layer_call(node: fx.Node) -> LayerCall | None:
    """Return what a node calls if a module can stand for it: a known layer in eval mode, all weights stored."""
    if node.op != "call_function" or node.target not in _KINDS:
        return None
    arguments = _arguments(node)
    if not _is_plain_layer(node, arguments):
        return None
    if node.target in RECURRENT:
        weights = recurrent_weights(arguments)
    else:
        weights = {name: arguments[name] for name in _WEIGHTS if arguments.get(name) is not None}
    stored = all(isinstance(weight, fx.Node) and weight.op == "get_attr" for weight in weights.values())
    if not weights or not stored:
        return None
    return LayerCall(node, arguments, {name: str(weight.target) for name, weight in weights.items()})


def _arguments(node: fx.Node) -> dict[str, Any]:
    """Return all arguments of an operator call by name, defaults included."""
    target = node.target
    assert isinstance(target, torch._ops.OpOverload)
    declared = target._schema.arguments
    given = dict(zip((argument.name for argument in declared), node.args, strict=False)) | dict(node.kwargs)
    return {argument.name: given.get(argument.name, argument.default_value) for argument in declared}


def _is_plain_layer(node: fx.Node, arguments: Arguments) -> bool:
    """Whether the call is a layer as ``nn`` has it: in eval mode, weighted, with sizes that are numbers."""
    if node.target in RECURRENT:
        return not arguments["train"]
    if node.target is aten.batch_norm.default:
        complete = all(arguments[name] is not None for name in _WEIGHTS)
        return complete and not arguments["training"] and node.meta["val"].dim() in _BATCH_NORMS
    sizes = arguments.get("normalized_shape", ())
    return arguments["weight"] is not None and all(isinstance(size, int) for size in sizes)


def _is_plain(value: Any) -> bool:  # noqa: ANN401  an argument of an operator
    parts = value if isinstance(value, list | tuple) else (value,)
    return not any(isinstance(part, fx.Node) for part in parts)


def _convolution(kind: Callable[..., nn.Module]) -> Callable[[Tensors, Arguments], nn.Module]:
    def build(tensors: Tensors, arguments: Arguments) -> nn.Module:
        weight, groups = tensors["weight"], arguments["groups"]
        axes = weight.dim() - 2
        options = {}
        for name in ("stride", "padding", "dilation", "output_padding"):
            if name in arguments:
                value = arguments[name]
                options[name] = value if isinstance(value, str) else tuple(value) * (axes if len(value) == 1 else 1)
        first, second = weight.shape[0], weight.shape[1] * groups
        channels = (first, second) if "output_padding" in arguments else (second, first)
        kernel = tuple(weight.shape[2:])
        return kind(*channels, kernel, groups=groups, bias="bias" in tensors, device="meta", **options)

    return build


def _linear(tensors: Tensors, _: Arguments) -> nn.Module:
    weight = tensors["weight"]
    return nn.Linear(weight.shape[1], weight.shape[0], bias="bias" in tensors, device="meta")


def _batch_norm(tensors: Tensors, arguments: Arguments) -> nn.Module:
    norm = _BATCH_NORMS[arguments["input"].meta["val"].dim()]
    return norm(len(tensors["weight"]), eps=arguments["eps"], momentum=arguments["momentum"])


def _layer_norm(tensors: Tensors, arguments: Arguments) -> nn.Module:
    shape = list(arguments["normalized_shape"])
    return nn.LayerNorm(shape, eps=arguments["eps"], bias="bias" in tensors, device="meta")


def _group_norm(tensors: Tensors, arguments: Arguments) -> nn.Module:
    built = nn.GroupNorm(arguments["num_groups"], len(tensors["weight"]), eps=arguments["eps"], device="meta")
    if "bias" not in tensors:
        built.bias = None  # type: ignore[assignment]  # what functional.group_norm takes for no bias
    return built


def _embedding(tensors: Tensors, arguments: Arguments) -> nn.Module:
    count, width = tensors["weight"].shape
    padding = arguments["padding_idx"]
    return nn.Embedding(count, width, padding_idx=None if padding == -1 else padding, device="meta")


_KINDS: dict[Any, Callable[[Tensors, Arguments], nn.Module]] = {
    aten.conv1d.default: _convolution(nn.Conv1d),
    aten.conv1d.padding: _convolution(nn.Conv1d),
    aten.conv2d.default: _convolution(nn.Conv2d),
    aten.conv2d.padding: _convolution(nn.Conv2d),
    aten.conv_transpose1d.default: _convolution(nn.ConvTranspose1d),
    aten.conv_transpose2d.input: _convolution(nn.ConvTranspose2d),
    aten.linear.default: _linear,
    aten.batch_norm.default: _batch_norm,
    aten.layer_norm.default: _layer_norm,
    aten.group_norm.default: _group_norm,
    aten.embedding.default: _embedding,
    **dict.fromkeys(RECURRENT, recurrent_module),
}
