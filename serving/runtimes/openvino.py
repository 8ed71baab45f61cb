"""OpenVINO on the CPU: fast bf16 where the CPU has it, and the home of ModelOpt's int8 graphs."""

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import openvino

from registry.errors import CandidateError
from registry.plugins import knob
from registry.records.model import ArtifactFormat, Signature
from serving.memory import allocated_bytes
from serving.runtime import (
    FIXED_BATCHES_KNOB,
    Array,
    Arrays,
    Runtime,
    Session,
    bytes_added,
    fixed_batches,
)


class OpenVino(Runtime):
    """One compiled model per artifact, tuned for latency, with the precision of computation said aloud.

    Left alone, OpenVINO computes "float32" in bf16 on a CPU that has it; so the precision is a knob here. Threads are
    not pinned to cores: several models in one process would all be pinned to the same one.

    Source: https://docs.openvino.ai/2026/openvino-workflow/running-inference/inference-devices-and-modes/cpu-device.html
    """

    consumes: ClassVar[frozenset[ArtifactFormat]] = frozenset({ArtifactFormat.ONNX, ArtifactFormat.OPENVINO_IR})

    precision: Literal["f32", "bf16"] = knob("f32", search=("f32", "bf16"), description="Type of float computation.")

    fixed_batches: bool = knob(False, search=(False, True), description=FIXED_BATCHES_KNOB)

    @classmethod
    def search_values(cls) -> dict[str, tuple[Any, ...]]:
        """The values that a search tries: bf16 only where the CPU computes in it."""
        return super().search_values() if _has_bf16() else {**super().search_values(), "precision": ("f32",)}

    def load(self, folder: Path, artifact_format: ArtifactFormat, signature: Signature) -> Session:
        """Compile ``model.onnx`` or ``model.xml``.

        Raises:
            CandidateError: it cannot be compiled, does not have the signature, or this CPU lacks the precision.
        """
        if self.precision == "bf16" and not _has_bf16():
            raise CandidateError("this CPU does not compute in bf16 (avx512_bf16 or amx_bf16); use precision f32")
        self.check_datatypes(signature)
        file = folder / artifact_format.main_file
        before = allocated_bytes()
        try:
            session = OpenVinoSession(self._compile(file), signature, 0)
            for size in fixed_batches(signature) if self.fixed_batches else ():
                session.add(size, self._compile(file, size))
        except RuntimeError as error:
            raise CandidateError(f"OpenVINO cannot load {file}: {error}") from error
        session.resident_bytes = bytes_added(before, folder)
        return session

    def _compile(self, file: Path, size: int | None = None) -> openvino.CompiledModel:
        model = _core().read_model(str(file))
        if size is not None:
            model.reshape({port: [size, *list(port.partial_shape)[1:]] for port in model.inputs})
        return _core().compile_model(model, "CPU", self._config())

    def _config(self) -> dict[str, Any]:
        return {
            "INFERENCE_PRECISION_HINT": self.precision,
            "PERFORMANCE_HINT": "LATENCY",
            "NUM_STREAMS": 1,
            "INFERENCE_NUM_THREADS": self.threads,
            "ENABLE_CPU_PINNING": False,
        }


class _Request:
    """A compiled model with one infer request.

    Inputs are copied into tensors that the request keeps from run to run: for small networks, handing it a new tensor
    each time costs as much as computing (a dense network of three layers: 13.4 us against 10.0 with the copy).
    """

    def __init__(self, compiled: openvino.CompiledModel, signature: Signature) -> None:
        self._inputs = [(spec.name, compiled.input(spec.name)) for spec in signature.inputs]
        self._outputs = [(spec.name, compiled.output(spec.name)) for spec in signature.outputs]
        self._request = compiled.create_infer_request()
        self._held: dict[str, Array] = {}

    def run(self, inputs: Mapping[str, Array]) -> Arrays:
        for name, port in self._inputs:
            array = inputs[name]
            held = self._held.get(name)
            if held is None or held.shape != array.shape:
                tensor = openvino.Tensor(port.get_element_type(), openvino.Shape(array.shape))
                self._request.set_tensor(port, tensor)
                held = self._held[name] = tensor.data
            np.copyto(held, array)
        self._request.infer(share_outputs=True)
        return {name: self._request.get_tensor(port).data.copy() for name, port in self._outputs}


class OpenVinoSession(Session):
    """A compiled model for any batch, and perhaps one for each of some sizes."""

    shape_errors = (RuntimeError,)

    def __init__(self, compiled: openvino.CompiledModel, signature: Signature, resident_bytes: int) -> None:
        """Wrap a compiled model.

        Raises:
            RuntimeError: it has no tensor of a name in the signature.
        """
        super().__init__(signature, resident_bytes)
        self._any = _Request(compiled, signature)
        self._fixed: dict[int, _Request] = {}

    def add(self, size: int, compiled: openvino.CompiledModel) -> None:
        """Run batches of one size with a model that was compiled for it."""
        self._fixed[size] = _Request(compiled, self.signature)

    def run(self, inputs: Mapping[str, Array]) -> Arrays:
        """Compute all outputs by name."""
        request = self._any
        if self._fixed:
            request = self._fixed.get(len(next(iter(inputs.values()))), request)
        return request.run(inputs)

    def close(self) -> None:
        """Free the requests and, with them, the models."""
        self._fixed.clear()
        del self._any


@lru_cache(maxsize=1)
def _core() -> openvino.Core:
    return openvino.Core()


@lru_cache(maxsize=1)
def _has_bf16() -> bool:
    return "BF16" in _core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
