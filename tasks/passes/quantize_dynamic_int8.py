"""Dynamic int8 for ONNX Runtime: int8 weights, activations quantized as they come; no calibration."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import ClassVar

from onnxruntime.quantization import QuantType, quantize_dynamic
from pydantic import Field

from registry.errors import CandidateError
from registry.records.model import ArtifactFormat
from tasks.optimizer.base import Artifact, Pass, PassContext, Stage
from tasks.optimizer.onnx_preparation import nodes_of_layers, operators, prepare

_OPERATORS = ("MatMul", "Attention", "LSTM")
_QUANTIZED = frozenset({"MatMulInteger", "QAttention", "DynamicQuantizeLSTM"})


class QuantizeDynamicInt8(Pass):
    """Matrix products and LSTMs in int8; the range of activations is taken from each batch as it comes.

    Convolutions stay in float: ONNX Runtime's dynamic ones are not faster than float32. As the range is that of the
    whole batch, an answer can depend on its batch-mates; the gate looks for that.

    Source: https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html#dynamic-quantization
    """

    stage: ClassVar[Stage] = Stage.QUANTIZE
    consumes: ClassVar[frozenset[ArtifactFormat]] = frozenset({ArtifactFormat.ONNX})
    produces: ClassVar[ArtifactFormat] = ArtifactFormat.ONNX
    suits: ClassVar[frozenset[str] | None] = frozenset({"onnxruntime"})

    excluded_layers: tuple[str, ...] = Field(
        default=(), description="Layers that stay in float: names of ONNX nodes or paths of modules."
    )

    def apply(self, artifact: Artifact, context: PassContext) -> Artifact:
        """Write ``model.onnx`` with integer operators.

        Raises:
            CandidateError: an excluded layer is not in the graph, or nothing could be quantized.
        """
        produced = Artifact(context.workspace, self.produces, artifact.signature)
        with TemporaryDirectory(dir=context.workspace) as temporary:
            prepared = Path(temporary) / "prepared.onnx"
            prepare(artifact.file, prepared)
            quantize_dynamic(
                prepared,
                produced.file,
                op_types_to_quantize=list(_OPERATORS),
                per_channel=True,
                reduce_range=False,
                weight_type=QuantType.QInt8,
                nodes_to_exclude=nodes_of_layers(prepared, self.excluded_layers),
            )
        if not operators(produced.file) & _QUANTIZED:
            raise CandidateError("the graph has no matrix product with constant weights and no LSTM to quantize")
        return produced
