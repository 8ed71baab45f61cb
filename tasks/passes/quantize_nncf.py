"""Static int8 by NNCF for OpenVINO: ranges, with biases corrected for the rounding."""

import logging
from typing import ClassVar, Literal

import nncf
import openvino
from nncf.quantization.advanced_parameters import (
    AdvancedQuantizationParameters,
    AdvancedSmoothQuantParameters,
    OverflowFix,
)
from pydantic import Field

from registry.errors import CandidateError
from registry.plugins import knob
from registry.records.model import ArtifactFormat
from tasks.optimizer.base import Artifact, Pass, PassContext, Stage
from tasks.optimizer.calibration import calibration_batches
from tasks.optimizer.openvino_ir import nodes_of_layers, read_ir, stored_weight, write_ir
from tasks.optimizer.weight_range import reduce_range_knob

_PRESETS = {"performance": nncf.QuantizationPreset.PERFORMANCE, "mixed": nncf.QuantizationPreset.MIXED}


class QuantizeNncf(Pass):
    """Activations and weights int8 where OpenVINO gains by it, and the biases corrected for the rounding.

    Networks with attention are quantized by NNCF's rules for transformers, which leave normalization and attention
    scores in float. Its SmoothQuant is off unless asked for: on encoders of PyTorch's own layers it made the answers
    wrong by half a standard deviation (0.57 against 0.02 without it, at any strength and batch).

    Source: https://docs.openvino.ai/2026/openvino-workflow/model-optimization-guide/quantizing-models-post-training.html
    """

    stage: ClassVar[Stage] = Stage.QUANTIZE
    consumes: ClassVar[frozenset[ArtifactFormat]] = frozenset({ArtifactFormat.ONNX, ArtifactFormat.OPENVINO_IR})
    produces: ClassVar[ArtifactFormat] = ArtifactFormat.OPENVINO_IR
    suits: ClassVar[frozenset[str] | None] = frozenset({"openvino"})
    needs_calibration: ClassVar[bool] = True

    preset: Literal["performance", "mixed"] = knob(
        "performance",
        search=("performance", "mixed"),
        description="Activations around zero, or (mixed) in the range that they have: finer, and may be slower.",
    )
    model_type: Literal["auto", "plain", "transformer"] = Field(
        default="auto", description="NNCF's rules; auto: those for transformers where two activations are multiplied."
    )
    fast_bias_correction: bool = Field(
        default=True, description="Correct biases layer by layer from their own inputs; false: slower, more exact."
    )
    smooth_quant_alpha: float = Field(
        default=-1, ge=-1, le=1, description="How far outliers move into weights, for transformers; -1: not at all."
    )
    reduce_range: bool = reduce_range_knob()
    samples: int = Field(default=256, ge=1, description="Calibration samples that are looked at.")
    excluded_layers: tuple[str, ...] = Field(
        default=(), description="Layers that stay in float: names of ONNX nodes or paths of modules."
    )

    def apply(self, artifact: Artifact, context: PassContext) -> Artifact:
        """Write ``model.xml`` and ``model.bin``.

        Raises:
            CandidateError: an excluded layer is not in the graph, NNCF does not know this graph, or it has nothing to
                quantize.
        """
        model = read_ir(artifact.file)
        excluded = nodes_of_layers(model, self.excluded_layers)
        batches = list(calibration_batches(context.calibration, artifact.signature, self.samples))
        nncf.set_log_level(logging.ERROR)
        try:
            quantized = nncf.quantize(
                model,
                nncf.Dataset(batches),
                subset_size=len(batches),
                preset=_PRESETS[self.preset],
                model_type=nncf.ModelType.TRANSFORMER if self._is_transformer(model) else None,
                fast_bias_correction=self.fast_bias_correction,
                ignored_scope=nncf.IgnoredScope(names=excluded, validate=False),
                advanced_parameters=AdvancedQuantizationParameters(
                    overflow_fix=OverflowFix.ENABLE if self.reduce_range else OverflowFix.DISABLE,
                    smooth_quant_alphas=AdvancedSmoothQuantParameters(matmul=self.smooth_quant_alpha),
                ),
            )
        except (nncf.InternalError, nncf.UnsupportedModelError, nncf.ValidationError, RuntimeError) as error:
            raise CandidateError(f"NNCF cannot quantize this graph: {error}") from error
        if not any(node.get_type_name() == "FakeQuantize" for node in quantized.get_ops()):
            raise CandidateError("NNCF found no operator of this graph to quantize; int8 would change nothing")
        produced = Artifact(context.workspace, self.produces, artifact.signature)
        write_ir(quantized, produced.file)
        return produced

    def _is_transformer(self, model: openvino.Model) -> bool:
        if self.model_type != "auto":
            return self.model_type == "transformer"
        return any(_multiplies_activations(node) for node in model.get_ops())


def _multiplies_activations(node: openvino.Node) -> bool:
    kind = node.get_type_name()
    if kind == "MatMul":
        return not any(stored_weight(node.input_value(side).get_node()) for side in (0, 1))
    return kind == "ScaledDotProductAttention"
