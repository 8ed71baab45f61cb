"""ONNX Runtime by hand: the exported graph as it is, and quantized to U8S8.

Source: https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html
"""

from collections.abc import Iterator
from functools import cache
from pathlib import Path

import onnxruntime
import torch
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process
from torch import nn

from benchmarks.hand_made.base import Call, Line, Prepared
from serving.runtime import Array

MODEL_FILE = "model.onnx"
OUTPUT = "logits"


def write_onnx(prepared: Prepared, folder: Path) -> None:
    """Export with a batch that varies."""
    name, module = prepared.net.input_name, prepared.module
    example = torch.from_numpy(prepared.samples.calibration[:2])
    exported = torch.onnx.export(
        module,
        (example,),
        dynamo=True,
        verbose=False,
        input_names=[name],
        output_names=[OUTPUT],
        dynamic_shapes={name: {0: torch.export.Dim("batch")}},
    )
    assert exported is not None
    exported.save(folder / MODEL_FILE)


def _session(folder: Path, batch: tuple[str, int] | None = None) -> onnxruntime.InferenceSession:
    """Open a session of one thread (there is no pool whose threads could spin), perhaps for one batch size only."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    if batch:
        options.add_free_dimension_override_by_name(*batch)
    return onnxruntime.InferenceSession(folder / MODEL_FILE, options, providers=["CPUExecutionProvider"])


def _open(prepared: Prepared, folder: Path) -> Call:
    session = _session(folder)
    return lambda inputs: session.run(None, inputs)[0]


def _open_fixed(prepared: Prepared, folder: Path) -> Call:
    """A session for each batch size: with all shapes known, more is decided before the first call."""
    name, axis = prepared.net.input_name, _session(folder).get_inputs()[0].shape[0]

    @cache
    def session(size: int) -> onnxruntime.InferenceSession:
        return _session(folder, (axis, size))

    return lambda inputs: session(len(inputs[name])).run(None, inputs)[0]


class _Reader(CalibrationDataReader):  # type: ignore[misc]  # the library ships no types
    def __init__(self, prepared: Prepared) -> None:
        self._name = prepared.net.input_name
        self._batches: Iterator[Array] = iter(
            prepared.samples.calibration[start : start + 16]
            for start in range(0, len(prepared.samples.calibration), 16)
        )

    def get_next(self) -> dict[str, Array] | None:
        batch = next(self._batches, None)
        return None if batch is None else {self._name: batch}


def _write_u8s8(prepared: Prepared, folder: Path) -> None:
    """Convolutional nets from end to end, so that residual sums stay in int8; others in their matrix products.

    Where the processor has no VNNI, weights get 7 bits, as the tool's documentation says, or sums would saturate.
    """
    exported = folder / "exported"
    exported.mkdir()
    write_onnx(prepared, exported)
    convolutional = any(isinstance(module, nn.Conv1d | nn.Conv2d) for module in prepared.module.modules())
    ready = exported / "ready.onnx"
    quant_pre_process(str(exported / MODEL_FILE), str(ready), skip_symbolic_shape=True)
    quantize_static(
        ready,
        folder / MODEL_FILE,
        _Reader(prepared),
        quant_format=QuantFormat.QDQ,
        op_types_to_quantize=None if convolutional else ["MatMul", "Gemm"],
        per_channel=True,
        reduce_range=not any(there and "vnni" in name for name, there in torch.cpu.get_capabilities().items()),
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
    )


LINES = (
    Line("onnxruntime fp32", write_onnx, _open),
    Line("onnxruntime fp32, fixed batch", write_onnx, _open_fixed),
    Line("onnxruntime u8s8", _write_u8s8, _open),
    Line("onnxruntime u8s8, fixed batch", _write_u8s8, _open_fixed),
)
