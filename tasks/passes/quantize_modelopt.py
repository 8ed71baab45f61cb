"""Static int8 by NVIDIA ModelOpt on the exported program itself, as a Q/DQ graph that OpenVINO runs fast."""

import copy
from typing import Any, ClassVar, Literal

import modelopt.torch.quantization as mtq
import torch
from pydantic import Field
from torch import nn

from registry.errors import CandidateError
from registry.plugins import knob
from registry.records.model import ArtifactFormat
from tasks.optimizer.base import Artifact, Pass, PassContext, Stage
from tasks.optimizer.batch_norms import fold_batch_norms
from tasks.optimizer.calibration import calibration_batches
from tasks.optimizer.lifting import export_again, lift
from tasks.optimizer.modelopt_layers import (
    check_layers,
    fold_smoothing,
    int8_quantizers,
    lowest_inputs,
    put_quantized_layers,
)
from tasks.optimizer.onnx_export import write_onnx

_SMOOTHING = 0.5
"""How much of the activations' range moves into the weights: the paper's choice; ModelOpt's own default is all."""


class QuantizeModelOpt(Pass):
    """Weights int8 per channel, activations 8 bits per tensor, batch norms folded first.

    The layers are lifted out of the exported program, so no source code is needed; recurrent ones, embeddings and norms
    stay in float. SmoothQuant takes outliers out of the inputs of linear layers by a scale per channel, which goes into
    the layer norm before them or, where there is none, in front of the layer.

    Source: https://nvidia.github.io/Model-Optimizer/guides/_pytorch_quantization.html; Xiao et al., "SmoothQuant:
    Accurate and Efficient Post-Training Quantization for Large Language Models", 2023
    """

    stage: ClassVar[Stage] = Stage.QUANTIZE
    consumes: ClassVar[frozenset[ArtifactFormat]] = frozenset({ArtifactFormat.EXPORTED_PROGRAM})
    produces: ClassVar[ArtifactFormat] = ArtifactFormat.ONNX
    suits: ClassVar[frozenset[str] | None] = frozenset({"openvino"})
    needs_calibration: ClassVar[bool] = True

    algorithm: Literal["max", "smoothquant"] = knob(
        "max", search=("max", "smoothquant"), description="How ranges are found: the largest value, or SmoothQuant."
    )
    samples: int = Field(default=512, ge=1, description="Calibration samples that are looked at.")
    excluded_layers: tuple[str, ...] = Field(default=(), description="Layers that stay in float: paths of modules.")

    def apply(self, artifact: Artifact, context: PassContext) -> Artifact:
        """Write ``model.onnx`` with int8 weights and QuantizeLinear and DequantizeLinear nodes.

        Raises:
            CandidateError: an excluded layer is not in the program, no layer can be quantized or smoothed, or the
                result cannot be exported.
        """
        torch.set_num_threads(context.threads)
        lifted = lift(torch.export.load(artifact.file))
        module = lifted.module
        fold_batch_norms(module)
        check_layers(module, self.excluded_layers, lifted.left)
        batches = list(calibration_batches(context.calibration, artifact.signature, self.samples))
        tensors = [[torch.from_numpy(value.copy()) for value in batch.values()] for batch in batches]
        twin = copy.deepcopy(module)
        with torch.no_grad(), lowest_inputs(twin) as lowest:
            calibrated = mtq.quantize(twin, self._configuration(module), lambda net: [net(*batch) for batch in tensors])
        put_quantized_layers(module, calibrated, lowest)
        fold_smoothing(module)
        produced = Artifact(context.workspace, self.produces, artifact.signature)
        write_onnx(export_again(module, artifact.signature, batches[0]), artifact.signature, produced.file)
        return produced

    def _configuration(self, module: nn.Module) -> dict[str, Any]:
        left_out = [{"quantizer_name": f"{layer}.*", "enable": False} for layer in self.excluded_layers]
        algorithm: str | dict[str, Any] = self.algorithm
        if self.algorithm == "smoothquant":
            linear = {path for path, layer in module.named_modules() if isinstance(layer, nn.Linear)}
            if not linear - set(self.excluded_layers):
                raise CandidateError("SmoothQuant smooths linear layers, and this program has none; use algorithm max")
            algorithm = {"method": self.algorithm, "alpha": _SMOOTHING}
        return {"quant_cfg": [*int8_quantizers(), *left_out], "algorithm": algorithm}
