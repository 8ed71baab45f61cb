"""Let a program compute in fewer bits of float; what it takes and returns keeps its type."""

import torch
from torch import Tensor, fx, nn

aten = torch.ops.aten

_CHECKS = (aten._assert_tensor_metadata.default,)
"""Calls that only state which type a tensor has, which is not true any more."""


def cast(module: fx.GraphModule, dtype: torch.dtype, *, channels_last: bool) -> fx.GraphModule:
    """Return a lifted module with its float32 weights and computations in another type.

    Inputs are cast on their way in, outputs on their way out. Wherever the program names float32 itself (the zeros that
    a recurrent layer starts with, say), the other type stands instead.

    Args:
        module: changed in place.
        dtype: bfloat16 or float16.
        channels_last: let 2-D convolutions and their images lie in memory channels innermost.
    """
    for layer in module.modules():
        _cast_tensors(layer, dtype, channels_last=channels_last)
    graph = module.graph
    for node in list(graph.nodes):
        if node.target in _CHECKS:
            graph.erase_node(node)
        elif node.op == "call_function":
            node.args = fx.node.map_aggregate(node.args, lambda value: dtype if value is torch.float32 else value)
            node.kwargs = fx.node.map_aggregate(node.kwargs, lambda value: dtype if value is torch.float32 else value)
        elif node.op == "placeholder" and _is_float32(node):
            _cast_input(node, dtype, channels_last=channels_last and node.meta["val"].dim() == 4)
    (output,) = graph.find_nodes(op="output")
    with graph.inserting_before(output):
        output.args = fx.map_arg(output.args, lambda node: _as_float32(node) if _is_float32(node) else node)
    return fx.GraphModule(module, graph)


def _is_float32(node: fx.Node) -> bool:
    """Whether a node's result was of this type in the program."""
    return getattr(node.meta.get("val"), "dtype", None) is torch.float32


def _cast_input(node: fx.Node, dtype: torch.dtype, *, channels_last: bool) -> None:
    layout = (False, False, torch.channels_last) if channels_last else ()
    with node.graph.inserting_after(node):
        inside = node.graph.call_function(aten.to.dtype, (node, dtype, *layout))
    node.replace_all_uses_with(inside, delete_user_cb=lambda user: user is not inside)
    inside.meta["val"] = node.meta["val"]


def _as_float32(node: fx.Node) -> fx.Node:
    return node.graph.call_function(aten.to.dtype, (node, torch.float32))


def _cast_tensors(layer: nn.Module, dtype: torch.dtype, *, channels_last: bool) -> None:
    image_layer = channels_last and isinstance(layer, nn.Conv2d | nn.ConvTranspose2d)

    def changed(tensor: Tensor) -> Tensor:
        tensor = tensor.detach().to(dtype)
        return tensor.contiguous(memory_format=torch.channels_last) if image_layer and tensor.dim() == 4 else tensor

    for name, parameter in list(layer.named_parameters(recurse=False)):
        if parameter.dtype is torch.float32:
            setattr(layer, name, nn.Parameter(changed(parameter), requires_grad=False))
    for name, buffer in list(layer.named_buffers(recurse=False)):
        if buffer.dtype is torch.float32:
            setattr(layer, name, changed(buffer))
