"""Static int8 by NVIDIA ModelOpt on the exported program itself, as a Q/DQ graph that OpenVINO runs fast."""

import copy
from collections.abc import Callable
from typing import Any, ClassVar

import modelopt.torch.quantization as mtq
import torch
import torch.ao.quantization.fx._decomposed  # registers the operators below
from pydantic import Field
from torch import fx, nn
from torch.nn import functional

from registry.errors import CandidateError
from registry.records.model import ArtifactFormat
from tasks.optimizer.base import Artifact, Pass, PassContext, Stage
from tasks.optimizer.batch_norms import fold_batch_norms
from tasks.optimizer.calibration import calibration_batches
from tasks.optimizer.lifting import export_again, lift, put_module
from tasks.optimizer.onnx_export import write_onnx

_INT8 = (-128, 127, torch.int8)
_QUANTIZERS: tuple[dict[str, Any], ...] = (
    {"quantizer_name": "*", "enable": False},
    {"quantizer_name": "*weight_quantizer", "cfg": {"num_bits": 8, "axis": 0}},
    {"quantizer_name": "*input_quantizer", "cfg": {"num_bits": 8, "axis": None}},
)
"""ModelOpt's INT8_DEFAULT_CFG without its exceptions by name, which are for language models."""
_LEAST_SCALE = 1e-9
"""For channels of zeros: anything but 0, which they would be divided by."""

Layer = nn.Conv1d | nn.Conv2d | nn.Linear

operators = torch.ops.quantized_decomposed


class QuantizeModelOpt(Pass):
    """Weights int8 per channel, activations int8 per tensor, batch norms folded first.

    The layers are lifted out of the exported program, so no source code is needed. ModelOpt finds the ranges; its own
    modules cannot be exported with a dynamic batch, so plain ones with the same arithmetic take their places.

    Source: https://nvidia.github.io/Model-Optimizer/guides/_pytorch_quantization.html
    """

    stage: ClassVar[Stage] = Stage.QUANTIZE
    consumes: ClassVar[frozenset[ArtifactFormat]] = frozenset({ArtifactFormat.EXPORTED_PROGRAM})
    produces: ClassVar[ArtifactFormat] = ArtifactFormat.ONNX
    suits: ClassVar[frozenset[str] | None] = frozenset({"openvino"})
    needs_calibration: ClassVar[bool] = True

    samples: int = Field(default=512, ge=1, description="Calibration samples that are looked at.")
    excluded_layers: tuple[str, ...] = Field(default=(), description="Layers that stay in float: paths of modules.")

    def apply(self, artifact: Artifact, context: PassContext) -> Artifact:
        """Write ``model.onnx`` with int8 weights and QuantizeLinear and DequantizeLinear nodes.

        Raises:
            CandidateError: an excluded layer is not in the program, no layer can be quantized, or the result cannot be
                exported.
        """
        lifted = lift(torch.export.load(artifact.file))
        module = lifted.module
        fold_batch_norms(module)
        batches = list(calibration_batches(context.calibration, artifact.signature, self.samples))
        tensors = [[torch.from_numpy(value.copy()) for value in batch.values()] for batch in batches]
        if not _quantize(module, tensors, _configuration(module, self.excluded_layers)):
            left = ", ".join(lifted.left) or "none with weights"
            raise CandidateError(f"this program has no convolution or linear layer to quantize; its calls: {left}")
        produced = Artifact(context.workspace, self.produces, artifact.signature)
        write_onnx(export_again(module, artifact.signature, batches[0]), artifact.signature, produced.file)
        return produced


class QuantizedLayer(nn.Module):
    """A convolution or linear layer with a rounded input and int8 weights, in operators that ONNX has."""

    weight: torch.Tensor
    weight_scale: torch.Tensor
    weight_zero: torch.Tensor

    def __init__(self, layer: Layer, calibrated: Any) -> None:  # noqa: ANN401  ModelOpt makes its classes as it goes
        """Take weights and bias of a float layer, ranges of its calibrated twin."""
        super().__init__()
        self.input_scale = max(float(calibrated.input_quantizer.amax) / _INT8[1], _LEAST_SCALE)
        weight = layer.weight.detach()
        scale = (calibrated.weight_quantizer.amax.detach().reshape(-1) / _INT8[1]).clamp_min(_LEAST_SCALE)
        zero = torch.zeros(len(scale), dtype=torch.int64)
        self.register_buffer("weight", operators.quantize_per_channel(weight, scale, zero, 0, *_INT8))
        self.register_buffer("weight_scale", scale)
        self.register_buffer("weight_zero", zero)
        self.bias = layer.bias
        self._options: dict[str, Any] = {}
        self._compute: Callable[..., torch.Tensor] = functional.linear
        if not isinstance(layer, nn.Linear):
            self._compute = functional.conv1d if isinstance(layer, nn.Conv1d) else functional.conv2d
            self._options = {name: getattr(layer, name) for name in ("stride", "padding", "dilation", "groups")}

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Compute the layer on the rounded input."""
        rounded = operators.quantize_per_tensor(x, self.input_scale, 0, *_INT8)
        x = operators.dequantize_per_tensor(rounded, self.input_scale, 0, *_INT8)
        weight = operators.dequantize_per_channel(self.weight, self.weight_scale, self.weight_zero, 0, *_INT8)
        return self._compute(x, weight, self.bias, **self._options)


def _configuration(module: nn.Module, excluded: tuple[str, ...]) -> dict[str, Any]:
    paths = [path for path, _ in module.named_modules()]
    for layer in excluded:
        if layer not in paths:
            raise CandidateError(f"the excluded layer {layer!r} is not in the program; give a module's path")
    left_out = [{"quantizer_name": f"{layer}.*", "enable": False} for layer in excluded]
    return {"quant_cfg": [*_QUANTIZERS, *left_out], "algorithm": "max"}


def _quantize(module: fx.GraphModule, batches: list[list[torch.Tensor]], configuration: dict[str, Any]) -> int:
    """Put quantized layers into a module by ranges that ModelOpt finds on a copy; return how many."""

    def forward_loop(calibrated: nn.Module) -> None:
        for batch in batches:
            calibrated(*batch)

    with torch.no_grad():
        calibrated = mtq.quantize(copy.deepcopy(module), configuration, forward_loop)
    quantized = 0
    for path, layer in calibrated.named_modules():
        quantizer = getattr(layer, "input_quantizer", None)
        original = module.get_submodule(path) if quantizer is not None and quantizer.is_enabled else None
        if isinstance(original, Layer):
            put_module(module, path, QuantizedLayer(original, layer))
            quantized += 1
    return quantized
