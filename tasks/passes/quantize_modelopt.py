"""Static int8 by NVIDIA ModelOpt on the exported program itself, as a Q/DQ graph that OpenVINO runs fast."""

import copy
from typing import Any, ClassVar, Literal

import modelopt.torch.quantization as mtq
import torch
from pydantic import Field
from torch import Tensor, fx, nn

from registry.errors import CandidateError
from registry.plugins import knob
from registry.records.model import ArtifactFormat
from tasks.optimizer.base import Artifact, Pass, PassContext, Stage
from tasks.optimizer.batch_norms import fold_batch_norms
from tasks.optimizer.calibration import calibration_batches
from tasks.optimizer.lifting import export_again, lift
from tasks.optimizer.modelopt_layers import (
    check_layers,
    int8_quantizers,
    lowest_inputs,
    put_quantized_layers,
    quantizable_layers,
    smoothable_layers,
)
from tasks.optimizer.onnx_export import write_onnx
from tasks.optimizer.weight_range import reduce_range_knob

_SMOOTHING = 0.5
"""How much of the activations' range moves into the weights: the paper's choice; ModelOpt's own default is all."""


class QuantizeModelOpt(Pass):
    """Weights int8 per channel, activations 8 bits per tensor, batch norms folded first.

    The layers are lifted out of the exported program, so no source code is needed; recurrent ones, embeddings and norms
    stay in float. SmoothQuant takes outliers out of the inputs of linear layers by a scale per channel, which goes into
    the layer norm before them; the other layers are treated as ever.

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
    reduce_range: bool = reduce_range_knob()
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
        self._quantize(module, tensors)
        produced = Artifact(context.workspace, self.produces, artifact.signature)
        write_onnx(export_again(module, artifact.signature, batches[0]), artifact.signature, produced.file)
        return produced

    def _quantize(self, module: fx.GraphModule, batches: list[list[Tensor]]) -> None:
        layers = quantizable_layers(module) - set(self.excluded_layers)
        smoothed = layers & smoothable_layers(module).keys() if self.algorithm == "smoothquant" else set()
        if self.algorithm == "smoothquant" and not smoothed:
            raise CandidateError(
                "SmoothQuant is for linear layers that alone take what a layer norm returns; this program has none: "
                "use algorithm max"
            )
        ways: tuple[tuple[set[str], Any], ...] = (
            (layers - smoothed, "max"),
            (smoothed, {"method": "smoothquant", "alpha": _SMOOTHING}),
        )
        twins = [self._calibrated(module, batches, names, how) for names, how in ways if names]
        for twin, lowest in twins:
            put_quantized_layers(module, twin, lowest, reduce_range=self.reduce_range)

    def _calibrated(
        self, module: fx.GraphModule, batches: list[list[Tensor]], layers: set[str], algorithm: str | dict[str, Any]
    ) -> tuple[nn.Module, dict[str, float]]:
        """Return a copy in which ModelOpt has found the ranges of some layers, and the smallest input of each."""
        twin = copy.deepcopy(module)
        left_out = [
            {"quantizer_name": f"{path}.*", "enable": False} for path in sorted(quantizable_layers(module) - layers)
        ]
        configuration = {"quant_cfg": [*int8_quantizers(), *left_out], "algorithm": algorithm}
        with torch.no_grad(), lowest_inputs(twin) as lowest:
            return mtq.quantize(twin, configuration, lambda net: [net(*batch) for batch in batches]), lowest
