"""ONNX Runtime on the CPU: the reference for ONNX sources, and the fastest home of U8S8 int8 graphs."""

import ctypes
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import ClassVar, NamedTuple

import numpy as np
import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as state

from registry.errors import CandidateError, InputError
from registry.plugins import knob
from registry.records.model import ArtifactFormat, Datatype, Signature, TensorSpec
from serving.memory import allocated_bytes
from serving.runtime import (
    FIXED_BATCHES_KNOB,
    NUMBERS,
    Array,
    Arrays,
    Runtime,
    Session,
    bytes_added,
    fixed_batches,
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
_SMALLEST_GRAPH = bytes.fromhex(
    "08083a330a0c0a0178120179220452656c751201675a0f0a0178120a0a08080112040a020801620f0a0179120a0a08080112040a02080142040a"
    "00100d"
)
"""A serialized ONNX model of opset 13: y = Relu(x) of one float."""
_RUN_OPTIONS = onnxruntime.RunOptions()
_BF16_IN_ONNX = 16
_BFLOAT16 = np.dtype("bfloat16")


class OnnxRuntime(Runtime):
    """One CPU session per artifact, all graph optimizations on.

    Source: https://onnxruntime.ai/docs/performance/tune-performance/
    """

    consumes: ClassVar[frozenset[ArtifactFormat]] = frozenset({ArtifactFormat.ONNX})
    reference_for: ClassVar[frozenset[ArtifactFormat]] = frozenset({ArtifactFormat.ONNX})

    datatypes: ClassVar[frozenset[Datatype]] = frozenset(Datatype)

    fixed_batches: bool = knob(False, search=(False, True), description=FIXED_BATCHES_KNOB)
    memory_arena: bool = knob(
        False,
        search=(False, True),
        description="Keep the memory of intermediate results between calls: quicker calls; more memory, part of which "
        "outlives the session.",
    )

    def set_up(self) -> None:
        """Open and run a smallest graph: the first session of a process fills the library's registries, some 8 MiB."""
        session = _initialized(state.InferenceSession(self._options(), _SMALLEST_GRAPH, False, False))
        session.run(["y"], {"x": np.zeros(1, np.float32)}, None)

    def load(self, folder: Path, artifact_format: ArtifactFormat, signature: Signature) -> Session:
        """Open ``model.onnx``.

        Raises:
            CandidateError: the file cannot be loaded or does not have the signature.
        """
        self.check_datatypes(signature)
        file = folder / artifact_format.main_file
        before = allocated_bytes()
        try:
            session = self._open(file)
            axes = {argument.shape[0] for argument in session.inputs_meta if argument.shape}
            sizes = fixed_batches(signature) if self.fixed_batches else ()
            fixed = {size: self._open(file, dict.fromkeys(axes, size)) for size in sizes}
        except _LOAD_ERRORS as error:
            raise CandidateError(f"ONNX Runtime cannot load {file}: {error}") from error
        expected = _expected(signature)
        _check_tensors("inputs", expected.inputs, session.inputs_meta)
        _check_tensors("outputs", expected.outputs, session.outputs_meta)
        return expected.session(session, fixed, signature, bytes_added(before, folder))

    def _open(self, file: Path, fixed_axes: Mapping[str, int] | None = None) -> state.InferenceSession:
        options = self._options(tuple((fixed_axes or {}).items()))
        return _initialized(state.InferenceSession(options, str(file), True, False))

    def _options(self, fixed_axes: tuple[tuple[str, int], ...] = ()) -> onnxruntime.SessionOptions:
        return _options(self.threads, self.memory_arena, fixed_axes)


@lru_cache(maxsize=1024)
def _options(threads: int, memory_arena: bool, fixed_axes: tuple[tuple[str, int], ...]) -> onnxruntime.SessionOptions:
    """A session copies its options, so that all alike can be given the same."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.enable_cpu_mem_arena = memory_arena
    options.enable_mem_pattern = memory_arena
    options.log_severity_level = _ERRORS_ONLY
    options.add_session_config_entry("session.intra_op.allow_spinning", "0" if threads == 1 else "1")
    # On x86 without VNNI, products of uint8 with int8 that uses all 8 bits saturate: slower kernels that do not.
    options.add_session_config_entry("session.x64quantprecision", "1")
    for axis, size in fixed_axes:
        options.add_free_dimension_override_by_name(axis, size)
    return options


class OnnxRuntimeSession(Session):
    """A compiled session for any batch, and perhaps one for each of some sizes; outputs are always C-contiguous.

    The library's Python class around it looks at all names again, and options made anew for each run cost as much again
    (9.4, 6.8 and 5.6 us for a small dense network, in a loop); the class is a tenth of the load, too. Binding inputs
    and outputs to new memory costs more than either.
    """

    value_errors, shape_errors = (state.InvalidArgument,), (state.Fail,)

    def __init__(
        self,
        session: state.InferenceSession,
        fixed: Mapping[int, state.InferenceSession],
        signature: Signature,
        resident_bytes: int,
    ) -> None:
        """Wrap a loaded session for any batch and those for batches of one size."""
        super().__init__(signature, resident_bytes)
        self._session = session
        self._fixed = dict(fixed)
        self._outputs = [spec.name for spec in signature.outputs]

    def run(self, inputs: Mapping[str, Array]) -> Arrays:
        """Compute all outputs by name."""
        session = self._session
        if self._fixed:
            session = self._fixed.get(len(next(iter(inputs.values()))), session)
        return dict(zip(self._outputs, session.run(self._outputs, inputs, _RUN_OPTIONS), strict=True))

    def close(self) -> None:
        """Free the sessions."""
        self._fixed.clear()
        del self._session


class OnnxRuntimeOddSession(OnnxRuntimeSession):
    """The same for signatures with BF16 or BYTES, which ONNX Runtime does not exchange as arrays of ours.

    BF16 goes in and out by its bits; BYTES as text, which is what ONNX's strings are.
    """

    def __init__(
        self,
        session: state.InferenceSession,
        fixed: Mapping[int, state.InferenceSession],
        signature: Signature,
        resident_bytes: int,
    ) -> None:
        """Wrap a loaded session for any batch and those for batches of one size."""
        super().__init__(session, fixed, signature, resident_bytes)
        self._values = any(spec.datatype is Datatype.BF16 for spec in signature.outputs)

    def run(self, inputs: Mapping[str, Array]) -> Arrays:
        """Compute all outputs by name.

        Raises:
            InputError: a BYTES input is not text in UTF-8.
        """
        session = self._fixed.get(len(next(iter(inputs.values()))), self._session) if self._fixed else self._session
        given = {name: _to_onnx(name, array) for name, array in inputs.items()}
        if self._values:
            values = {name: _to_value(one)._get_c_value() for name, one in given.items()}
            found = map(
                _from_value, map(onnxruntime.OrtValue, session.run_with_ort_values(values, self._outputs, None))
            )
        else:
            found = map(_from_array, session.run(self._outputs, given, None))
        return dict(zip(self._outputs, found, strict=True))


class _Expected(NamedTuple):
    """What a signature asks of a graph: the type of each tensor by its name, and what runs it."""

    inputs: Mapping[str, str]
    outputs: Mapping[str, str]
    session: type[OnnxRuntimeSession]


@lru_cache(maxsize=1024)
def _expected(signature: Signature) -> _Expected:
    """Thousands of models often have one signature."""
    return _Expected(_onnx_types(signature.inputs), _onnx_types(signature.outputs), _session_type(signature))


def _initialized(session: state.InferenceSession) -> state.InferenceSession:
    session.initialize_session(["CPUExecutionProvider"], [{}], set())
    return session


def _session_type(signature: Signature) -> type[OnnxRuntimeSession]:
    outputs = {spec.datatype for spec in signature.outputs}
    datatypes = outputs.union(spec.datatype for spec in signature.inputs)
    if Datatype.BF16 in outputs and Datatype.BYTES in datatypes:
        raise CandidateError("ONNX Runtime returns no BF16 tensors where others are BYTES; cast them in the graph")
    return OnnxRuntimeSession if NUMBERS.issuperset(datatypes) else OnnxRuntimeOddSession


def _to_onnx(name: str, array: Array) -> Array | onnxruntime.OrtValue:
    if array.dtype == _BFLOAT16:
        bits = np.ascontiguousarray(array).view(np.uint16)
        return onnxruntime.OrtValue.ortvalue_from_numpy_with_onnx_type(bits, _BF16_IN_ONNX)
    if not array.dtype.hasobject:
        return np.ascontiguousarray(array)
    text = np.empty(array.size, object)
    try:
        text[:] = [element.decode() for element in array.reshape(-1).tolist()]
    except UnicodeDecodeError as error:
        raise InputError(f"the input {name!r} holds bytes that are not text in UTF-8: {error.reason}") from error
    return text.reshape(array.shape)


def _to_value(given: Array | onnxruntime.OrtValue) -> onnxruntime.OrtValue:
    return given if isinstance(given, onnxruntime.OrtValue) else onnxruntime.OrtValue.ortvalue_from_numpy(given)


def _from_value(value: onnxruntime.OrtValue) -> Array:
    if value.data_type() == "tensor(bfloat16)":
        memory = ctypes.string_at(value._ortvalue.data_ptr(), value._ortvalue.tensor_size_in_bytes())
        return np.frombuffer(memory, _BFLOAT16).reshape(value.shape())
    return value.numpy()


def _from_array(found: Array) -> Array:
    if not found.dtype.hasobject:
        return found
    encoded = np.empty(found.size, object)
    encoded[:] = [element.encode() for element in found.reshape(-1).tolist()]
    return encoded.reshape(found.shape)


def _check_tensors(side: str, wanted: Mapping[str, str], found: list[onnxruntime.NodeArg]) -> None:
    present = {argument.name: argument.type for argument in found}
    if wanted != present:
        raise CandidateError(f"the graph's {side} are {present}, but the signature's are {wanted}")


def _onnx_types(specs: Iterable[TensorSpec]) -> Mapping[str, str]:
    names = {"float32": "float", "float64": "double", "object": "string"}
    found = {spec.name: spec.datatype.numpy_name for spec in specs}
    return {name: f"tensor({names.get(numpy_name, numpy_name)})" for name, numpy_name in found.items()}
