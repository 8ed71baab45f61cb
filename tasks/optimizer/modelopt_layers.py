"""What passes with ModelOpt share: the configuration of int8, and plain layers that compute what ModelOpt simulates.

ModelOpt's own modules cannot be exported with a dynamic batch, so plain ones with the same arithmetic take their
places.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
import torch.ao.quantization.fx._decomposed  # registers the operators below
from torch import Tensor, fx, nn
from torch.nn import functional

from registry.errors import CandidateError
from tasks.optimizer.lifting import put_module
from tasks.optimizer.weight_range import largest_weight

Layer = nn.Conv1d | nn.Conv2d | nn.ConvTranspose1d | nn.ConvTranspose2d | nn.Linear

_COMPUTE: dict[type[nn.Module], Callable[..., Tensor]] = {
    nn.Linear: functional.linear,
    nn.Conv1d: functional.conv1d,
    nn.Conv2d: functional.conv2d,
    nn.ConvTranspose1d: functional.conv_transpose1d,
    nn.ConvTranspose2d: functional.conv_transpose2d,
}
_OPTIONS = ("stride", "padding", "groups", "dilation")
_INT8 = (-128, 127, torch.int8)
_UINT8 = (0, 255, torch.uint8)
_LEAST_SCALE = 1e-9
"""For channels of zeros: anything but 0, which they would be divided by."""

operators = torch.ops.quantized_decomposed


class QuantizedLayer(nn.Module):
    """A convolution or linear layer with a rounded input and int8 weights, in operators that ONNX has."""

    weight: Tensor
    weight_scale: Tensor
    weight_zero: Tensor

    def __init__(
        self,
        calibrated: Any,  # noqa: ANN401  ModelOpt makes its classes as it goes
        lowest: float,
        largest_weight: int,
    ) -> None:
        """Take weights and ranges of a layer that ModelOpt has calibrated.

        Args:
            calibrated: ModelOpt's layer.
            lowest: the smallest input that it saw; with none below 0, all 8 bits are for the others.
            largest_weight: the magnitude that the largest weight of a channel gets.
        """
        super().__init__()
        self._kind = next(kind for kind in _COMPUTE if isinstance(calibrated, kind))
        self._input_range = _UINT8 if lowest >= 0 else _INT8
        self.input_scale = max(float(calibrated.input_quantizer.amax.detach()) / self._input_range[1], _LEAST_SCALE)
        self._axis = channel_axis(self._kind)
        weight = calibrated.weight.detach()
        scale = (calibrated.weight_quantizer.amax.detach().reshape(-1) / largest_weight).clamp_min(_LEAST_SCALE)
        zero = torch.zeros(len(scale), dtype=torch.int64)
        self.register_buffer("weight", operators.quantize_per_channel(weight, scale, zero, self._axis, *_INT8))
        self.register_buffer("weight_scale", scale)
        self.register_buffer("weight_zero", zero)
        self.bias = calibrated.bias
        options = () if self._kind is nn.Linear else _OPTIONS if self._axis == 0 else (*_OPTIONS, "output_padding")
        self._options = {name: getattr(calibrated, name) for name in options}

    def forward(self, x: Tensor) -> Tensor:
        """Compute the layer on the rounded input."""
        rounded = operators.quantize_per_tensor(x, self.input_scale, 0, *self._input_range)
        x = operators.dequantize_per_tensor(rounded, self.input_scale, 0, *self._input_range)
        weight = operators.dequantize_per_channel(self.weight, self.weight_scale, self.weight_zero, self._axis, *_INT8)
        return _COMPUTE[self._kind](x, weight, self.bias, **self._options)


def channel_axis(kind: type[nn.Module]) -> int:
    """Return the axis of a layer's weight that its output channels are on."""
    return 1 if kind in (nn.ConvTranspose1d, nn.ConvTranspose2d) else 0


def int8_quantizers() -> list[dict[str, Any]]:
    """Return ModelOpt's INT8_DEFAULT_CFG for the layers that can be exported, and for nothing else.

    Weights per output channel, activations per tensor; without the exceptions by name, which are for language models.

    Source: https://nvidia.github.io/Model-Optimizer/guides/_pytorch_quantization.html
    """
    found: list[dict[str, Any]] = [{"quantizer_name": "*", "enable": False}]
    for kind in _COMPUTE:
        owner = {"parent_class": f"nn.{kind.__name__}"}
        weight = {"num_bits": 8, "axis": channel_axis(kind)}
        found.append({**owner, "quantizer_name": "*weight_quantizer", "cfg": weight})
        found.append({**owner, "quantizer_name": "*input_quantizer", "cfg": {"num_bits": 8, "axis": None}})
    return found


def quantizable_layers(module: nn.Module) -> set[str]:
    """Return the paths of the layers that can be int8."""
    return {path for path, layer in module.named_modules() if isinstance(layer, Layer)}


def check_layers(module: nn.Module, excluded: Iterable[str], left: Iterable[str]) -> None:
    """Check that there is something to quantize, and that all excluded layers are there.

    Raises:
        CandidateError: one of both is not so.
    """
    paths = dict(module.named_modules())
    for layer in excluded:
        if layer not in paths:
            raise CandidateError(f"the excluded layer {layer!r} is not in the program; give a module's path")
    if not quantizable_layers(module) - set(excluded):
        kinds = {type(one).__name__ for one in paths.values() if not list(one.children()) and list(one.parameters())}
        has = ", ".join([*sorted(kinds), *left]) or "nothing with weights"
        raise CandidateError(f"this program has no convolution or linear layer to quantize; it has {has}")


@contextmanager
def lowest_inputs(module: nn.Module) -> Iterator[dict[str, float]]:
    """Note the smallest input of every layer while a module runs, by path."""
    lowest: dict[str, float] = {}

    def watch(path: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        def note(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            lowest[path] = min(lowest.get(path, 0.0), float(inputs[0].detach().min()))

        return note

    layers = [(path, layer) for path, layer in module.named_modules() if isinstance(layer, Layer)]
    hooks = [layer.register_forward_pre_hook(watch(path)) for path, layer in layers]
    yield lowest
    for hook in hooks:
        hook.remove()


def smoothable_layers(module: fx.GraphModule) -> dict[str, str]:
    """Return the linear layers that alone take what a layer norm returns, with the path of that norm.

    Only there does SmoothQuant's scale cost nothing: it goes into the norm. In front of any other layer it would be a
    multiplication of its own, which OpenVINO 2026 merges into the rounding behind it in a wrong way (seen: answers off
    by .7 deviations, where ONNX Runtime's were off by .02 on the same graph).
    """
    calls = Counter(node.target for node in module.graph.find_nodes(op="call_module"))
    found = {}
    for node in module.graph.find_nodes(op="call_module"):
        source = node.args[0]
        if not isinstance(module.get_submodule(str(node.target)), nn.Linear) or source.op != "call_module":
            continue
        norm = module.get_submodule(str(source.target))
        alone = len(source.users) == 1 and calls[source.target] == calls[node.target] == 1
        if isinstance(norm, nn.LayerNorm) and len(norm.normalized_shape) == 1 and alone:
            found[str(node.target)] = str(source.target)
    return found


def put_quantized_layers(
    module: fx.GraphModule, calibrated: nn.Module, lowest: Mapping[str, float], *, reduce_range: bool
) -> int:
    """Put plain quantized layers into a module, one for each that is calibrated in its twin; return how many.

    Args:
        module: changed in place.
        calibrated: what ModelOpt made of a copy.
        lowest: the smallest inputs of the copy's layers, by path.
        reduce_range: weights of 7 bits.
    """
    norms = smoothable_layers(module)
    quantized = 0
    for path, layer in list(calibrated.named_modules()):
        quantizer = getattr(layer, "input_quantizer", None)
        if isinstance(layer, Layer) and quantizer is not None and quantizer.is_enabled:
            put_module(module, path, QuantizedLayer(layer, lowest[path], largest_weight(reduce_range=reduce_range)))
            if quantizer.pre_quant_scale is not None:
                _scale(module.get_submodule(norms[path]), quantizer.pre_quant_scale)
            quantized += 1
    return quantized


def _scale(norm: nn.Module, factors: Tensor) -> None:
    """Let a layer norm return what it did, each channel times a factor."""
    for name, parameter in list(norm.named_parameters()):
        setattr(norm, name, nn.Parameter(parameter.detach() * factors, requires_grad=False))
