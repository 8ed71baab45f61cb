"""Static int8 for ONNX Runtime: unsigned activations, signed weights per channel, in Q/DQ form."""

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import ClassVar, Literal

import numpy as np
import numpy.typing as npt
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_static,
)
from pydantic import Field

from registry.errors import CandidateError
from registry.plugins import knob
from registry.records.model import ArtifactFormat
from tasks.optimizer.base import Artifact, Pass, PassContext, Stage
from tasks.optimizer.calibration import calibration_batches
from tasks.optimizer.onnx_preparation import nodes_of_layers, operators, prepare

_METHODS = {
    "minmax": CalibrationMethod.MinMax,
    "entropy": CalibrationMethod.Entropy,
    "percentile": CalibrationMethod.Percentile,
}


class QuantizeStaticInt8(Pass):
    """U8S8: activations uint8 by calibrated range, weights int8 per channel.

    Signed activations (S8S8) are 2.5 times slower on CPUs with VNNI, so there is no knob for them.

    Source: https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html
    """

    stage: ClassVar[Stage] = Stage.QUANTIZE
    consumes: ClassVar[frozenset[ArtifactFormat]] = frozenset({ArtifactFormat.ONNX})
    produces: ClassVar[ArtifactFormat] = ArtifactFormat.ONNX
    suits: ClassVar[frozenset[str] | None] = frozenset({"onnxruntime"})
    needs_calibration: ClassVar[bool] = True

    calibrate: Literal["minmax", "entropy", "percentile"] = knob(
        "minmax", search=("minmax", "percentile"), description="How ranges follow from the calibration set."
    )
    samples: int = Field(default=512, ge=1, description="Calibration samples that are looked at.")
    excluded_layers: tuple[str, ...] = Field(
        default=(), description="Layers that stay in float: names of ONNX nodes or paths of modules."
    )

    def apply(self, artifact: Artifact, context: PassContext) -> Artifact:
        """Write ``model.onnx`` with QuantizeLinear and DequantizeLinear nodes.

        Raises:
            CandidateError: an excluded layer is not in the graph, or nothing could be quantized.
        """
        produced = Artifact(context.workspace, self.produces, artifact.signature)
        with TemporaryDirectory(dir=context.workspace) as temporary:
            prepared = Path(temporary) / "prepared.onnx"
            prepare(artifact.file, prepared)
            quantize_static(
                prepared,
                produced.file,
                CalibrationReader(calibration_batches(context.calibration, artifact.signature, self.samples)),
                quant_format=QuantFormat.QDQ,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                per_channel=True,
                reduce_range=False,
                calibrate_method=_METHODS[self.calibrate],
                nodes_to_exclude=nodes_of_layers(prepared, self.excluded_layers),
            )
        if "QuantizeLinear" not in operators(produced.file):
            raise CandidateError("no operator of this graph can be quantized statically; int8 would change nothing")
        return produced


class CalibrationReader(CalibrationDataReader):  # type: ignore[misc]  # the library ships no types
    """Hands out batches in the way that the library asks for them."""

    def __init__(self, batches: Iterator[dict[str, npt.NDArray[np.generic]]]) -> None:
        """Wrap batches by input name."""
        self._batches = batches

    def get_next(self) -> dict[str, npt.NDArray[np.generic]] | None:
        """Return the next batch, None at the end."""
        return next(self._batches, None)
