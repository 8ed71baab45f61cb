"""PyTorch by hand: eager in float32 to compare, in bf16, and compiled ahead of time with and without frozen weights.

Source: https://docs.pytorch.org/docs/2.13/torch.compiler_aot_inductor.html
"""

import copy
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import nn
from torch._inductor import aoti_compile_and_package, aoti_load_package

from benchmarks.hand_made.base import Call, Line, Prepared
from serving.runtime import Array

_PACKAGE_FILE = "model.pt2"


def _write_nothing(prepared: Prepared, folder: Path) -> None:
    """Eager modules are used as they are."""


def _calling(module: Callable[[torch.Tensor], torch.Tensor], name: str) -> Call:
    def call(inputs: Mapping[str, Array]) -> Array:
        with torch.inference_mode():
            return module(torch.from_numpy(inputs[name])).numpy()

    return call


def _open_eager(prepared: Prepared, folder: Path) -> Call:
    torch.set_num_threads(1)
    return _calling(prepared.module, prepared.net.input_name)


def _open_bf16(prepared: Prepared, folder: Path) -> Call:
    """Weights and activations in bf16, images with their channels last."""
    torch.set_num_threads(1)
    module = copy.deepcopy(prepared.module).to(torch.bfloat16)
    images = any(isinstance(layer, nn.Conv2d) for layer in module.modules())
    if images:
        module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # in place

    def run(x: torch.Tensor) -> torch.Tensor:
        if x.is_floating_point():
            x = x.to(torch.bfloat16, memory_format=torch.channels_last if images else torch.preserve_format)
        return module(x).float()

    return _calling(run, prepared.net.input_name)


def _compiling(*, freezing: bool) -> Callable[[Prepared, Path], None]:
    def write(prepared: Prepared, folder: Path) -> None:
        torch.set_num_threads(1)
        example = torch.from_numpy(prepared.samples.calibration[:2])
        shapes = {prepared.net.input_name: {0: torch.export.Dim("batch")}}
        with torch.no_grad():
            program = torch.export.export(prepared.module, (example,), dynamic_shapes=shapes)
            aoti_compile_and_package(
                program,
                package_path=str(folder / _PACKAGE_FILE),
                inductor_configs={"freezing": freezing, "cpp.threads": 1},
            )

    return write


def _open_package(prepared: Prepared, folder: Path) -> Call:
    torch.set_num_threads(1)
    return _calling(aoti_load_package(str(folder / _PACKAGE_FILE)), prepared.net.input_name)


LINES = (
    Line("torch eager", _write_nothing, _open_eager),
    Line("torch bf16", _write_nothing, _open_bf16),
    Line("aotinductor", _compiling(freezing=False), _open_package),
    Line("aotinductor freezing", _compiling(freezing=True), _open_package),
)
