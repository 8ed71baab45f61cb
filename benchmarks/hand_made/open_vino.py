"""OpenVINO by hand: the exported graph in f32 and bf16, and quantized by NNCF.

Source: https://docs.openvino.ai/2026/openvino-workflow/model-optimization-guide/quantizing-models-post-training.html
"""

from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path

import nncf
import openvino
from torch import nn

from benchmarks.hand_made.base import Call, Line, Prepared
from benchmarks.hand_made.onnx_runtime import MODEL_FILE, write_onnx
from serving.runtime import Array

_QUANTIZED_FILE = "model.xml"


def _write_nncf(prepared: Prepared, folder: Path) -> None:
    write_onnx(prepared, folder)
    name, calibration = prepared.net.input_name, prepared.samples.calibration
    samples = [{name: calibration[row : row + 1]} for row in range(len(calibration))]
    transformer = any(isinstance(module, nn.LayerNorm) for module in prepared.module.modules())
    quantized = nncf.quantize(
        openvino.Core().read_model(folder / MODEL_FILE),
        nncf.Dataset(samples),
        preset=nncf.QuantizationPreset.MIXED,
        subset_size=len(samples),
        model_type=nncf.ModelType.TRANSFORMER if transformer else None,
    )
    openvino.save_model(quantized, folder / _QUANTIZED_FILE)


def _opening(file: str, precision: str, *, fixed: bool = False) -> Callable[[Prepared, Path], Call]:
    """Open for any batch, or compile anew for each batch size: with all shapes known, a call decides nothing."""

    def open_(prepared: Prepared, folder: Path) -> Call:
        core, name = openvino.Core(), prepared.net.input_name
        configuration = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": 1,
            "NUM_STREAMS": 1,
            "INFERENCE_PRECISION_HINT": precision,
        }

        @cache
        def request(size: int) -> openvino.InferRequest:
            model = core.read_model(folder / file)
            if fixed:
                model.reshape({name: [size, *prepared.samples.evaluation.shape[1:]]})
            return core.compile_model(model, "CPU", configuration).create_infer_request()

        def call(inputs: Mapping[str, Array]) -> Array:
            array = inputs[name]
            ready = request(len(array) if fixed else 0)
            ready.set_input_tensor(openvino.Tensor(array, shared_memory=True))
            ready.infer()
            return ready.get_output_tensor(0).data

        return call

    return open_


LINES = (
    Line("openvino f32", write_onnx, _opening(MODEL_FILE, "f32")),
    Line("openvino bf16", write_onnx, _opening(MODEL_FILE, "bf16")),
    Line("openvino bf16, fixed batch", write_onnx, _opening(MODEL_FILE, "bf16", fixed=True)),
    Line("openvino nncf int8", _write_nncf, _opening(_QUANTIZED_FILE, "f32")),
    Line("openvino nncf int8, rest bf16", _write_nncf, _opening(_QUANTIZED_FILE, "bf16")),
    Line("openvino nncf int8, fixed batch", _write_nncf, _opening(_QUANTIZED_FILE, "f32", fixed=True)),
)
