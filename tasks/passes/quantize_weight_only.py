"""Weights in 4 or 8 bits by blocks, activations in float: smaller matrix products for ONNX Runtime, no calibration."""

from pathlib import Path
from typing import ClassVar, Literal

import onnx
from onnxruntime.quantization import QuantFormat
from onnxruntime.quantization.matmul_nbits_quantizer import DefaultWeightOnlyQuantConfig, MatMulNBitsQuantizer
from onnxruntime.quantization.onnx_model import ONNXModel
from pydantic import Field

from registry.plugins import knob
from registry.records.model import ArtifactFormat
from tasks.optimizer.base import Artifact, Pass, PassContext, Stage
from tasks.optimizer.onnx_preparation import quantize_graph

_INT8_PRODUCTS = 4
"""ONNX Runtime's accuracy level at which a block of activations is rounded to int8 for the product."""


class QuantizeWeightOnly(Pass):
    """Matrix products with constant weights read them in blocks of 4 or 8 bits, each with its own scale.

    What a large language model gains is memory and the time to read it; on small batches of small networks the gain is
    size. Answers do not depend on batch-mates, as activations have no common range.

    Source: https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html#quantize-to-int4uint4
    """

    stage: ClassVar[Stage] = Stage.QUANTIZE
    consumes: ClassVar[frozenset[ArtifactFormat]] = frozenset({ArtifactFormat.ONNX})
    produces: ClassVar[ArtifactFormat] = ArtifactFormat.ONNX
    suits: ClassVar[frozenset[str] | None] = frozenset({"onnxruntime"})

    bits: Literal[4, 8] = knob(8, search=(4, 8), description="Bits of a weight.")
    block_size: Literal[16, 32, 64, 128, 256] = knob(
        32, search=(32, 128), description="Weights along the inner axis that share a scale."
    )
    int8_products: bool = knob(
        True, search=(True, False), description="Round activations to int8 inside of the product, block by block."
    )
    excluded_layers: tuple[str, ...] = Field(
        default=(), description="Layers that stay in float: names of ONNX nodes or paths of modules."
    )

    def apply(self, artifact: Artifact, context: PassContext) -> Artifact:
        """Write ``model.onnx`` with ``MatMulNBits`` operators.

        Raises:
            CandidateError: an excluded layer is not in the graph, or it has no matrix product with constant weights.
        """
        return quantize_graph(artifact, context, self.excluded_layers, frozenset({"MatMulNBits"}), self._quantize)

    def _quantize(self, prepared: Path, target: Path, excluded: list[str]) -> None:
        model = ONNXModel(onnx.load(prepared))
        model.replace_gemm_with_matmul()
        quantizer = MatMulNBitsQuantizer(
            model.model,
            nodes_to_exclude=excluded,
            algo_config=DefaultWeightOnlyQuantConfig(
                block_size=self.block_size,
                is_symmetric=True,
                accuracy_level=_INT8_PRODUCTS if self.int8_products else None,
                quant_format=QuantFormat.QOperator,
                op_types_to_quantize=("MatMul",),
                bits=self.bits,
            ),
        )
        quantizer.process()
        quantizer.model.save_model_to_file(str(target))
