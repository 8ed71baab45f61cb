"""ONNX Runtime on the CPU: the reference for ONNX sources, and the fastest home of U8S8 int8 graphs."""

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as state

from registry.errors import CandidateError
from registry.plugins import knob
from registry.records.model import ArtifactFormat, Signature, TensorSpec
from serving.runtime import (
    FIXED_BATCHES_KNOB,
    Array,
    Arrays,
    Runtime,
    Session,
    bytes_added,
    fixed_batches,
    resident_set_bytes,
)

_LOAD_ERRORS = (
    state.Fail,
    state.InvalidArgument,
    state.InvalidGraph,
    state.InvalidProtobuf,
    state.NoModel,
    state.NoSuchFile,
    state.NotImplemented,
    state.RuntimeException,
)
_ERRORS_ONLY = 3


class OnnxRuntime(Runtime):
    """One CPU session per artifact, all graph optimizations on, without the memory arena that outlives a session.

    Source: https://onnxruntime.ai/docs/performance/tune-performance/
    """

    consumes: ClassVar[frozenset[ArtifactFormat]] = frozenset({ArtifactFormat.ONNX})
    reference_for: ClassVar[frozenset[ArtifactFormat]] = frozenset({ArtifactFormat.ONNX})

    fixed_batches: bool = knob(False, search=(False, True), description=FIXED_BATCHES_KNOB)

    def load(self, folder: Path, artifact_format: ArtifactFormat, signature: Signature) -> Session:
        """Open ``model.onnx``.

        Raises:
            CandidateError: the file cannot be loaded or does not have the signature.
        """
        file = folder / artifact_format.main_file
        before = resident_set_bytes()
        try:
            session = self._open(file)
            axes = {argument.shape[0] for argument in session.get_inputs() if argument.shape}
            sizes = fixed_batches(signature) if self.fixed_batches else ()
            fixed = {size: self._open(file, dict.fromkeys(axes, size)) for size in sizes}
        except _LOAD_ERRORS as error:
            raise CandidateError(f"ONNX Runtime cannot load {file}: {error}") from error
        _check_tensors("inputs", signature.inputs, session.get_inputs())
        _check_tensors("outputs", signature.outputs, session.get_outputs())
        return OnnxRuntimeSession(session, fixed, signature, bytes_added(before, folder))

    def _open(self, file: Path, fixed_axes: Mapping[str, int] | None = None) -> onnxruntime.InferenceSession:
        options = self._options()
        for axis, size in (fixed_axes or {}).items():
            options.add_free_dimension_override_by_name(axis, size)
        return onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])

    def _options(self) -> onnxruntime.SessionOptions:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self.threads
        options.inter_op_num_threads = 1
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
        options.enable_cpu_mem_arena = False
        options.enable_mem_pattern = False
        options.log_severity_level = _ERRORS_ONLY
        options.add_session_config_entry("session.intra_op.allow_spinning", "0" if self.threads == 1 else "1")
        # On x86 without VNNI, products of uint8 with int8 that uses all 8 bits saturate: slower kernels that do not.
        options.add_session_config_entry("session.x64quantprecision", "1")
        return options


class OnnxRuntimeSession(Session):
    """An ``InferenceSession`` for any batch, and perhaps one for each of some sizes; outputs are always C-contiguous.

    They are run through the compiled session inside: the Python method around that looks at all names again and costs a
    sixth of the call of a small dense network (3.9 us against 3.3). Binding inputs and outputs costs more than either.
    """

    def __init__(
        self,
        session: onnxruntime.InferenceSession,
        fixed: Mapping[int, onnxruntime.InferenceSession],
        signature: Signature,
        resident_bytes: int,
    ) -> None:
        """Wrap a loaded session for any batch and those for batches of one size."""
        super().__init__(signature, resident_bytes)
        self._session = session._sess
        self._fixed = {size: one._sess for size, one in fixed.items()}
        self._outputs = [spec.name for spec in signature.outputs]

    def run(self, inputs: Mapping[str, Array]) -> Arrays:
        """Compute all outputs by name."""
        session = self._session
        if self._fixed:
            session = self._fixed.get(len(next(iter(inputs.values()))), session)
        return dict(zip(self._outputs, session.run(self._outputs, inputs, None), strict=True))

    def close(self) -> None:
        """Free the sessions."""
        self._fixed.clear()
        del self._session


def _check_tensors(side: str, expected: tuple[TensorSpec, ...], found: list[onnxruntime.NodeArg]) -> None:
    wanted = {spec.name: _onnx_type(spec) for spec in expected}
    present = {argument.name: argument.type for argument in found}
    if wanted != present:
        raise CandidateError(f"the graph's {side} are {present}, but the signature's are {wanted}")


def _onnx_type(spec: TensorSpec) -> str:
    name = {"float32": "float", "float64": "double"}.get(spec.datatype.numpy_name, spec.datatype.numpy_name)
    return f"tensor({name})"
