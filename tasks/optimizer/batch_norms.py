"""Fold batch norms into the layers before them, which then do the same work alone."""

from collections import Counter

from torch import fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

from tasks.optimizer.lifting import put_module


def fold_batch_norms(module: fx.GraphModule) -> int:
    """Fold every batch norm of a lifted module into the layer that alone feeds it, in place; return how many.

    That layer is a convolution, a transposed one without groups, or a linear one on rows.
    """
    calls = Counter(node.target for node in module.graph.find_nodes(op="call_module"))
    folded = 0
    for node in list(module.graph.find_nodes(op="call_module")):
        source = node.args[0]
        norm = module.get_submodule(str(node.target))
        if not isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d) or not isinstance(source, fx.Node):
            continue
        if source.op != "call_module" or len(source.users) != 1 or calls[source.target] != 1:
            continue
        layer = _folded(module.get_submodule(str(source.target)), norm, rows=source.meta["val"].dim() == 2)
        if layer is not None:
            put_module(module, str(source.target), layer)
            node.replace_all_uses_with(source)
            module.graph.erase_node(node)
            folded += 1
    module.delete_all_unused_submodules()
    module.recompile()
    return folded


def _folded(layer: nn.Module, norm: nn.BatchNorm1d | nn.BatchNorm2d, *, rows: bool) -> nn.Module | None:
    if isinstance(layer, nn.Conv1d | nn.Conv2d):
        return fuse_conv_bn_eval(layer, norm)
    if isinstance(layer, nn.ConvTranspose1d | nn.ConvTranspose2d) and layer.groups == 1:
        return fuse_conv_bn_eval(layer, norm, transpose=True)
    if isinstance(layer, nn.Linear) and rows:
        return fuse_linear_bn_eval(layer, norm)
    return None
