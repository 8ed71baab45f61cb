"""Find the layers whose channels must stay: structured pruning may change only what nothing else counts on."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import fx, nn

aten = torch.ops.aten

_ELEMENTWISE = frozenset(
    {
        aten.add.Tensor,
        aten.add_.Tensor,
        aten.clamp.default,
        aten.clone.default,
        aten.contiguous.default,
        aten.div.Tensor,
        aten.dropout.default,
        aten.elu.default,
        aten.gelu.default,
        aten.hardsigmoid.default,
        aten.hardswish.default,
        aten.hardtanh.default,
        aten.leaky_relu.default,
        aten.mul.Tensor,
        aten.relu.default,
        aten.relu_.default,
        aten.sigmoid.default,
        aten.silu.default,
        aten.sub.Tensor,
        aten.tanh.default,
    }
)
_POOLS = frozenset(
    {
        aten.adaptive_avg_pool1d.default,
        aten.adaptive_avg_pool2d.default,
        aten.adaptive_max_pool2d.default,
        aten.avg_pool1d.default,
        aten.avg_pool2d.default,
        aten.max_pool1d.default,
        aten.max_pool2d.default,
    }
)

Layer = nn.Conv1d | nn.Conv2d | nn.ConvTranspose1d | nn.ConvTranspose2d | nn.Linear


def fixed_layers(module: fx.GraphModule) -> list[nn.Module]:
    """Return the layers of a lifted module that must keep their output channels, the recurrent ones always.

    The channels of a convolution or linear layer are free if they only meet element-wise operators, batch norms,
    pooling, flattening and further layers. They are fixed if they, or channels that are added to them, reach an output,
    come from an input, or meet any other operator (a reshape into heads, a layer norm, a recurrent cell).
    """
    flow = _Flow(module)
    for node in module.graph.nodes:
        flow.visit(node)
    recurrent = [layer for layer in module.modules() if isinstance(layer, nn.RNNBase)]
    return [*(layer for node, layer in flow.layers if flow.is_fixed(node)), *recurrent]


class _Flow:
    """Follows channels through a graph; nodes whose channels must be equal form one set (union-find)."""

    def __init__(self, module: fx.GraphModule) -> None:
        self._module = module
        self._parents: dict[fx.Node, fx.Node] = {}
        self._axis: dict[fx.Node, int | None] = {}
        self._fixed: set[fx.Node] = set()
        self.layers: list[tuple[fx.Node, nn.Module]] = []

    def is_fixed(self, node: fx.Node) -> bool:
        """Whether anything fixes the channels of this node's result."""
        root = self._root(node)
        return any(self._root(other) is root for other in self._fixed)

    def visit(self, node: fx.Node) -> None:
        """Note what one node does to the channels of its inputs."""
        if node.op == "call_module":
            self._visit_module(node, self._module.get_submodule(str(node.target)))
        elif node.op == "call_function" and _is_number(node):
            return
        elif node.op == "call_function" and node.target in _ELEMENTWISE | _POOLS:
            self._join(node, [source for source in node.all_input_nodes if not self._is_scalar(source)])
        elif node.target is aten.mean.dim:
            self._visit_mean(node)
        elif node.target is torch.flatten:
            self._visit_flatten(node)
        else:
            self._fix(node, *node.all_input_nodes)

    def _visit_module(self, node: fx.Node, module: nn.Module) -> None:
        source = node.all_input_nodes[0]
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            self._join(node, [source])
            return
        if not isinstance(module, Layer):
            self._fix(node, *node.all_input_nodes)
            return
        if any(module is known for _, known in self.layers):
            self._fix(node, source, *(other for other, known in self.layers if known is module))
        self.layers.append((node, module))
        rank = _rank(node)
        axis = rank - 1 if isinstance(module, nn.Linear) else 1
        if self._axis.get(source) != axis:
            self._fix(source)
        if not isinstance(module, nn.Linear) and module.groups > 1:
            depthwise = module.groups == module.in_channels == module.out_channels
            self._join(node, [source]) if depthwise else self._fix(node, source)
        self._axis[node] = axis

    def _visit_mean(self, node: fx.Node) -> None:
        source: Any = node.args[0]
        axes = {axis % _rank(source) for axis in _integers(node.args[1])}
        axis = self._axis.get(source)
        kept = len(node.args) > 2 and bool(node.args[2])
        self._join(node, [source])
        if axis is None or axis in axes:
            self._fix(node)
        elif not kept:
            self._axis[node] = axis - sum(removed < axis for removed in axes)

    def _visit_flatten(self, node: fx.Node) -> None:
        source: Any = node.args[0]
        self._join(node, [source])
        if self._axis.get(source) != node.args[1]:
            self._fix(node)

    def _join(self, node: fx.Node, sources: Sequence[fx.Node]) -> None:
        self._axis[node] = self._axis.get(sources[0]) if sources else None
        for source in sources:
            self._parents[self._root(source)] = self._root(node)
            if self._axis.get(source) is None or self._axis[source] != self._axis[node]:
                self._fix(source)

    def _fix(self, *nodes: fx.Node) -> None:
        self._fixed.update(nodes)

    def _root(self, node: fx.Node) -> fx.Node:
        while node in self._parents and self._parents[node] is not node:
            node = self._parents[node]
        return node

    def _is_scalar(self, node: fx.Node) -> bool:
        return _is_number(node) or _rank(node) == 0


def _is_number(node: fx.Node) -> bool:
    """Whether a node's result is a size, not a tensor or several."""
    return isinstance(node.meta.get("val"), int | float | torch.SymInt | torch.SymFloat)


def _rank(node: fx.Node) -> int:
    value = node.meta.get("val")
    return value.dim() if isinstance(value, torch.Tensor) else -1


def _integers(value: Any) -> list[int]:  # noqa: ANN401  an argument of an operator
    return [value] if isinstance(value, int) else list(value)
