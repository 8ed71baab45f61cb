"""Static int8 by NVIDIA ModelOpt on the ONNX graph: signed activations and weights, placed where kernels fuse."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar, Literal

import modelopt.onnx.quantization as moq
import numpy as np
import onnx
from onnx import numpy_helper
from onnxruntime.quantization import calibrate, qdq_quantizer
from onnxruntime.quantization.base_quantizer import BaseQuantizer
from onnxruntime.quantization.registry import QDQRegistry, QLinearOpsRegistry
from pydantic import Field

from registry.errors import CandidateError
from registry.plugins import knob
from registry.records.model import ArtifactFormat
from serving.runtime import Arrays
from tasks.optimizer.base import Artifact, Pass, PassContext, Stage
from tasks.optimizer.calibration import calibration_batches
from tasks.optimizer.onnx_preparation import quantize_graph
from tasks.optimizer.weight_range import LARGEST, LARGEST_REDUCED, reduce_range_knob

_PATCHED = (
    calibrate,
    calibrate.CalibraterBase,
    calibrate.HistogramCalibrater,
    calibrate.HistogramCollector,
    calibrate.MinMaxCalibrater,
    qdq_quantizer.QDQQuantizer,
    BaseQuantizer,
)
_REGISTRIES = (QDQRegistry, QLinearOpsRegistry)


class QuantizeModelOptOnnx(Pass):
    """Weights int8 per channel, activations int8 per tensor, with ModelOpt's rules for which operators gain.

    For OpenVINO: ONNX Runtime runs signed activations (S8S8) 2.5 times slower than unsigned ones.

    Source: https://nvidia.github.io/Model-Optimizer/guides/_onnx_quantization.html
    """

    stage: ClassVar[Stage] = Stage.QUANTIZE
    consumes: ClassVar[frozenset[ArtifactFormat]] = frozenset({ArtifactFormat.ONNX})
    produces: ClassVar[ArtifactFormat] = ArtifactFormat.ONNX
    suits: ClassVar[frozenset[str] | None] = frozenset({"openvino"})
    needs_calibration: ClassVar[bool] = True

    calibrate: Literal["max", "entropy"] = knob(
        "max", search=("max", "entropy"), description="How ranges follow from the calibration set."
    )
    reduce_range: bool = reduce_range_knob()
    samples: int = Field(
        default=32, ge=1, description="Calibration samples that are looked at; entropy holds the activations of all."
    )
    excluded_layers: tuple[str, ...] = Field(
        default=(), description="Layers that stay in float: names of ONNX nodes or paths of modules."
    )

    def apply(self, artifact: Artifact, context: PassContext) -> Artifact:
        """Write ``model.onnx`` with QuantizeLinear and DequantizeLinear nodes.

        Raises:
            CandidateError: an excluded layer is not in the graph, ModelOpt does not know this graph, or nothing could
                be quantized.
        """
        batches = list(calibration_batches(context.calibration, artifact.signature, self.samples))

        def quantize(prepared: Path, target: Path, excluded: list[str]) -> None:
            try:
                with _onnxruntime_restored():
                    self._quantize(prepared, target, excluded, batches)
                if self.reduce_range:
                    _widen_steps(target, LARGEST / LARGEST_REDUCED)
            except (AssertionError, KeyError, RuntimeError, ValueError) as error:
                raise CandidateError(f"ModelOpt cannot quantize this graph: {error!r}") from error

        return quantize_graph(artifact, context, self.excluded_layers, frozenset({"QuantizeLinear"}), quantize)

    def _quantize(self, prepared: Path, target: Path, excluded: list[str], batches: list[Arrays]) -> None:
        shapes = {name: "x".join(map(str, array.shape)) for name, array in batches[0].items()}
        moq.quantize(
            str(prepared),
            quantize_mode="int8",
            calibration_data={name: np.concatenate([batch[name] for batch in batches]) for name in batches[0]},
            calibration_method=self.calibrate,
            calibration_shapes=",".join(f"{name}:{shape}" for name, shape in shapes.items()),
            calibration_eps=["cpu"],
            nodes_to_exclude=[re.escape(name) for name in excluded],
            high_precision_dtype="fp32",
            output_path=str(target),
            log_level="WARNING",
        )


def _widen_steps(file: Path, factor: float) -> None:
    """Let the int8 values of all weights be so many times smaller; the graph holds the weights as floats still."""
    model = onnx.load(file)
    stored = {initializer.name: initializer for initializer in model.graph.initializer}
    rounded = (node.input for node in model.graph.node if node.op_type == "QuantizeLinear")
    for scale in {names[1] for names in rounded if names[0] in stored}:
        wider = numpy_helper.to_array(stored[scale]) * np.float32(factor)
        stored[scale].CopyFrom(numpy_helper.from_array(wider, scale))
    onnx.save(model, file)


@contextmanager
def _onnxruntime_restored() -> Iterator[None]:
    """Undo on leaving what ModelOpt does to ONNX Runtime's own quantizer, which other passes of the process need."""
    attributes = [(owner, dict(vars(owner))) for owner in _PATCHED]
    operators = [(registry, dict(registry)) for registry in _REGISTRIES]
    try:
        yield
    finally:
        for owner, before in attributes:
            for name, value in before.items():
                if vars(owner)[name] is not value:
                    setattr(owner, name, value)
        for registry, known in operators:
            registry.clear()
            registry.update(known)
