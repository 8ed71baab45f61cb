"""Static int8 for ONNX Runtime and OpenVINO: unsigned activations, signed weights per channel, in Q/DQ form."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
import onnx
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QDQQuantizer,
    QuantType,
    create_calibrator,
)
from onnxruntime.quantization.calibrate import TensorsData
from onnxruntime.quantization.registry import QDQRegistry, QLinearOpsRegistry
from pydantic import Field

from registry.plugins import knob
from registry.records.model import ArtifactFormat
from tasks.optimizer.base import Artifact, Pass, PassContext, Stage
from tasks.optimizer.calibration import calibration_batches
from tasks.optimizer.onnx_preparation import quantize_graph
from tasks.optimizer.weight_range import reduce_range_knob

_METHODS = {
    "minmax": CalibrationMethod.MinMax,
    "entropy": CalibrationMethod.Entropy,
    "percentile": CalibrationMethod.Percentile,
}
_OPTIONS: dict[str, dict[str, Any]] = {
    "minmax": {},
    "entropy": {"num_bins": 256, "symmetric": False},
    "percentile": {"num_bins": 2048, "symmetric": False},
}
"""By the library's defaults, entropy has no bin to leave out, and a percentile spends half of uint8 on negative numbers
that no ReLU gives."""
_OPERATORS = {
    "all": tuple(sorted({*QLinearOpsRegistry, *QDQRegistry})),
    "products": ("Conv", "ConvTranspose", "Gemm", "MatMul"),
}
_HISTOGRAM_BATCH = 8
_HISTOGRAM_NUMBERS = 150_000_000
"""Activations that histograms are made of: some 10 s of work. Batches of 8 bound the memory they are held in."""

Batch = dict[str, npt.NDArray[np.generic]]


class QuantizeStaticInt8(Pass):
    """U8S8: activations uint8 by calibrated range, weights int8.

    Signed activations (S8S8) are 2.5 times slower on CPUs with VNNI, so there is no knob for them. ONNX Runtime is
    fastest with every operator in int8 that it has in int8, as each step between int8 and float costs; OpenVINO, on
    networks with attention, with convolutions and matrix products alone.

    Source: https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html
    """

    stage: ClassVar[Stage] = Stage.QUANTIZE
    consumes: ClassVar[frozenset[ArtifactFormat]] = frozenset({ArtifactFormat.ONNX})
    produces: ClassVar[ArtifactFormat] = ArtifactFormat.ONNX
    suits: ClassVar[frozenset[str] | None] = frozenset({"onnxruntime", "openvino"})
    needs_calibration: ClassVar[bool] = True

    operators: Literal["all", "products"] = knob(
        "all",
        search=("all", "products"),
        description="What is quantized: all that can be, or convolutions and matrix products.",
    )
    calibrate: Literal["minmax", "entropy", "percentile"] = knob(
        "minmax",
        search=("minmax", "entropy", "percentile"),
        description="How ranges follow from the calibration set.",
    )
    percentile: float = Field(
        default=99.999, gt=50, le=100, description="Share of activations inside the range, if that is by percentile."
    )
    per_channel: bool = knob(
        True, search=(True, False), description="A scale for each output channel of a weight, or one for the weight."
    )
    reduce_range: bool = reduce_range_knob()
    samples: int = Field(default=512, ge=1, description="Calibration samples that are looked at, at most.")
    excluded_layers: tuple[str, ...] = Field(
        default=(), description="Layers that stay in float: names of ONNX nodes or paths of modules."
    )

    def apply(self, artifact: Artifact, context: PassContext) -> Artifact:
        """Write ``model.onnx`` with QuantizeLinear and DequantizeLinear nodes.

        Raises:
            CandidateError: an excluded layer is not in the graph, or nothing could be quantized.
        """
        batches = calibration_batches(context.calibration, artifact.signature, self.samples)

        def quantize(prepared: Path, target: Path, excluded: list[str]) -> None:
            if self.calibrate != "minmax":
                split = artifact.signature.inputs[0].shape[0] is None
                ranges = self._ranges(prepared, _bounded(batches, _numbers(prepared), split=split))
            else:
                ranges = self._ranges(prepared, batches)
            self._quantize(prepared, target, excluded, ranges)

        return quantize_graph(artifact, context, self.excluded_layers, frozenset({"QuantizeLinear"}), quantize)

    def _ranges(self, prepared: Path, batches: Iterator[Batch]) -> TensorsData:
        calibrator = create_calibrator(
            prepared,
            list(_OPERATORS[self.operators]),
            augmented_model_path=str(prepared.with_name("augmented.onnx")),
            calibrate_method=_METHODS[self.calibrate],
            extra_options={**_OPTIONS[self.calibrate], "percentile": self.percentile},
        )
        for batch in batches:
            calibrator.collect_data(OneBatch(batch))
        return calibrator.compute_data()

    def _quantize(self, prepared: Path, target: Path, excluded: list[str], ranges: TensorsData) -> None:
        quantizer = QDQQuantizer(
            onnx.load(prepared),
            per_channel=self.per_channel,
            reduce_range=self.reduce_range,
            weight_qType=QuantType.QInt8,
            activation_qType=QuantType.QUInt8,
            tensors_range=ranges,
            nodes_to_quantize=[],
            nodes_to_exclude=excluded,
            op_types_to_quantize=list(_OPERATORS[self.operators]),
            extra_options={},
        )
        quantizer.quantize_model()
        quantizer.model.save_model_to_file(str(target))


class OneBatch(CalibrationDataReader):  # type: ignore[misc]  # the library ships no types
    """Hands out one batch; given all at once, the library would hold the activations of all."""

    def __init__(self, batch: Batch) -> None:
        """Wrap inputs by name."""
        self._left = [batch]

    def get_next(self) -> Batch | None:
        """Return the batch, then None."""
        return self._left.pop() if self._left else None


def _bounded(batches: Iterator[Batch], numbers: int, *, split: bool) -> Iterator[Batch]:
    """Yield smaller batches, as many as histograms can be made of in bounded time and memory.

    Args:
        batches: inputs by name, all of one size.
        numbers: activations of a sample.
        split: the graph takes batches of any size.
    """
    size = _HISTOGRAM_BATCH if split else None
    most = max(_HISTOGRAM_NUMBERS // max(numbers, 1), 1)
    taken = 0
    for batch in batches:
        count = len(next(iter(batch.values())))
        for start in range(0, count, size or count):
            if taken >= most:
                return
            yield {name: array[start : start + (size or count)] for name, array in batch.items()}
            taken += size or count


def _numbers(prepared: Path) -> int:
    """Return how many activations the graph has for a sample, as far as shapes are noted."""
    graph = onnx.load(prepared, load_external_data=False).graph
    shapes = ([max(size.dim_value, 1) for size in info.type.tensor_type.shape.dim] for info in graph.value_info)
    return sum(int(np.prod(shape[1:], dtype=np.int64)) for shape in shapes)
