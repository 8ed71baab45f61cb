"""The child process that measures sensitivities: ranges once, then the graph with one layer in int8, layer by layer."""

import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime

from registry.errors import CandidateError
from registry.records.optimization import LayerSensitivity, Sensitivity
from tasks.optimizer.base import Artifact
from tasks.optimizer.calibration import calibration_batches
from tasks.optimizer.evaluate import load_arrays
from tasks.optimizer.fake_quantization import activations, quantized, watched
from tasks.optimizer.float_graph import float_graph
from tasks.optimizer.isolation import answer
from tasks.optimizer.onnx_layers import Layer, quantizable_layers
from tasks.optimizer.sensitivity import SensitivityJob

SAMPLES = 32
"""As many as one batch: errors of layers differ by orders of magnitude, those of samples do not."""
_RESERVE = 0.8
"""The share of the time left that the runs may take; the rest is for loading graphs."""
_LEAST_SECONDS = 1e-9
_WITHOUT_BOUND = 1e30
"""For answers that are no numbers: records hold finite ones only."""
_ERRORS_ONLY = 3

Batch = dict[str, npt.NDArray[np.generic]]
Floats = list[npt.NDArray[np.floating[Any]]]


def measure(job_json: dict[str, Any], workspace: Path) -> dict[str, Any]:
    """Return the sensitivities of a source's layers as JSON.

    Raises:
        CandidateError: the source has no layer to quantize, or there is not time enough for one sample.
    """
    started = time.monotonic()
    job = SensitivityJob.model_validate(job_json)
    source = job.source.artifact
    model = float_graph(source, workspace)
    layers = quantizable_layers(model.graph)
    if not layers:
        raise CandidateError("the graph has no layer that int8 computes: no convolution and no matrix product")
    batches = list(calibration_batches(load_arrays(Path(job.calibration)), source.signature, SAMPLES))
    measured = _Measurement(model, source, batches, job.threads)
    ranges = measured.ranges(layers)
    measured.keep_affordable(len(layers), _RESERVE * (job.deadline - time.time()))
    found = [
        LayerSensitivity(
            layer=layer.name, operator=layer.operator, error=measured.error(quantized(model, layer, ranges))
        )
        for layer in layers
    ]
    return Sensitivity(
        layers=tuple(sorted(found, key=lambda one: (-one.error, one.layer))),
        samples=measured.samples,
        seconds=time.monotonic() - started,
    ).model_dump(mode="json")


class _Measurement:
    """The float answers of a graph, and how far those of its variants are from them."""

    def __init__(self, model: onnx.ModelProto, source: Artifact, batches: list[Batch], threads: int) -> None:
        self._model, self._source, self._batches, self._threads = model, source, batches, threads
        self._names = [spec.name for spec in source.signature.outputs if spec.datatype.numpy_name.startswith("float")]
        self._wanted: Floats = []
        self._seconds = 0.0

    @property
    def samples(self) -> int:
        """How many samples are looked at."""
        return sum(len(next(iter(batch.values()))) for batch in self._batches)

    def ranges(self, layers: tuple[Layer, ...]) -> dict[str, tuple[float, float]]:
        """Run in float once; return the ranges of what the layers read and return."""
        names = tuple(dict.fromkeys(name for layer in layers for name in activations(self._model.graph, layer)))
        session = _session(watched(self._model, names), self._threads)
        ends = [f"{name}/{kind}" for name in names for kind in ("min", "max")]
        started = time.monotonic()
        rows = [session.run([*self._names, *ends], batch) for batch in self._batches]
        self._seconds = time.monotonic() - started
        count = len(self._names)
        self._wanted = [np.concatenate([row[one] for row in rows]) for one in range(count)]
        found = np.array([row[count:] for row in rows], np.float64)
        low, high = found[:, 0::2].min(0), found[:, 1::2].max(0)
        return {name: (float(low[one]), float(high[one])) for one, name in enumerate(names)}

    def keep_affordable(self, runs: int, seconds: float) -> None:
        """Look at fewer samples from here on if there is not time for so many runs of all.

        Raises:
            CandidateError: there is not time for one.
        """
        share = seconds / max(runs * self._seconds, _LEAST_SECONDS)
        if share >= 1:
            return
        kept = int(share * self.samples)
        size = self._source.signature.inputs[0].shape[0]
        if size is None:
            self._batches = [{name: value[:kept] for name, value in self._batches[0].items()}]
        else:
            self._batches = self._batches[: kept // size]
        if not self._batches or kept < 1:
            raise CandidateError(f"there is not time for {runs} runs of one sample in {seconds:.0f} s")
        self._wanted = self._answers(self._model)

    def error(self, variant: onnx.ModelProto) -> float:
        """Return the mean squared error of a variant's answers over the variance of the float ones, for all outputs."""
        pairs = zip(self._answers(variant), self._wanted, strict=True)
        return float(sum(_relative_error(found, wanted) for found, wanted in pairs))

    def _answers(self, model: onnx.ModelProto) -> Floats:
        session = _session(model, self._threads)
        rows = [session.run(self._names, batch) for batch in self._batches]
        return [np.concatenate(parts) for parts in zip(*rows, strict=True)]


def _relative_error(found: npt.NDArray[np.floating[Any]], wanted: npt.NDArray[np.floating[Any]]) -> float:
    exact = wanted.astype(np.float64)
    variance = float(exact.var())
    squared = float(np.mean((found.astype(np.float64) - exact) ** 2))
    return float(np.nan_to_num(squared / variance if variance else squared, nan=_WITHOUT_BOUND, posinf=_WITHOUT_BOUND))


def _session(model: onnx.ModelProto, threads: int) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = _ERRORS_ONLY
    options.add_session_config_entry("session.disable_quant_qdq", "1")  # rounded values, computed in float
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


if __name__ == "__main__":
    answer(measure)
