"""Dynamic int8 for ONNX Runtime: int8 weights, activations quantized as they come; no calibration."""

from pathlib import Path
from typing import ClassVar

from onnxruntime.quantization import QuantType, quantize_dynamic
from pydantic import Field

from registry.plugins import knob
from registry.records.model import ArtifactFormat
from tasks.optimizer.base import Artifact, Pass, PassContext, Stage
from tasks.optimizer.onnx_preparation import quantize_graph
from tasks.optimizer.weight_range import reduce_range_knob

_OPERATORS = ("MatMul", "Attention", "LSTM")
_MADE = frozenset({"MatMulInteger", "QAttention", "DynamicQuantizeLSTM"})


class QuantizeDynamicInt8(Pass):
    """Matrix products and LSTMs in int8; the range of activations is taken from each batch as it comes.

    Convolutions stay in float: ONNX Runtime's dynamic ones are not faster than float32. As the range is that of the
    whole batch, an answer can depend on its batch-mates; the gate looks for that. A scale for each channel is finer,
    but takes ONNX Runtime longer (an encoder of six layers 4.4 ms against 2.6, an LSTM 171 us against 148).

    Source: https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html#dynamic-quantization
    """

    stage: ClassVar[Stage] = Stage.QUANTIZE
    consumes: ClassVar[frozenset[ArtifactFormat]] = frozenset({ArtifactFormat.ONNX})
    produces: ClassVar[ArtifactFormat] = ArtifactFormat.ONNX
    suits: ClassVar[frozenset[str] | None] = frozenset({"onnxruntime"})

    per_channel: bool = knob(
        False, search=(False, True), description="A scale for each output channel of a weight, or one for the weight."
    )
    reduce_range: bool = reduce_range_knob()
    excluded_layers: tuple[str, ...] = Field(
        default=(), description="Layers that stay in float: names of ONNX nodes or paths of modules."
    )

    def apply(self, artifact: Artifact, context: PassContext) -> Artifact:
        """Write ``model.onnx`` with integer operators.

        Raises:
            CandidateError: an excluded layer is not in the graph, or nothing could be quantized.
        """
        return quantize_graph(artifact, context, self.excluded_layers, _MADE, self._quantize)

    def _quantize(self, prepared: Path, target: Path, excluded: list[str]) -> None:
        quantize_dynamic(
            prepared,
            target,
            op_types_to_quantize=list(_OPERATORS),
            per_channel=self.per_channel,
            reduce_range=self.reduce_range,
            weight_type=QuantType.QInt8,
            nodes_to_exclude=excluded,
        )
