"""JSON values to arrays, checked against a signature; messages name the field that is wrong.

This is on the path of every request: what can be known of a signature is worked out once, in a plan, and messages
are written only when something is wrong.
"""

import math
import struct
from collections.abc import Sequence
from itertools import chain
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np
import numpy.typing as npt

from registry.errors import InputError
from registry.records.model import Datatype, Signature, TensorSpec
from serving.engine import elements
from serving.runtime import Array, Arrays

_FLOATS = {Datatype.FP16: "d", Datatype.BF16: "f", Datatype.FP32: "f", Datatype.FP64: "d"}
"""Type codes of ``struct`` that floats are read with: quicker than NumPy, and in its standard sizes (``<``), unlike the
native ones, it refuses an overflow. FP16 is rounded once, from doubles; BF16 by way of FP32, as ``ml_dtypes`` does."""

_BFLOAT16 = np.dtype("bfloat16")
_LARGEST = {np.dtype("float16"): 65504.0, _BFLOAT16: float(ml_dtypes.finfo(_BFLOAT16).max)}
"""Of the floats that are read wider than they are."""

_JSON_NAMES: dict[type, str] = {
    bool: "true or false",
    int: "a whole number",
    float: "a fraction or a number beyond 64 bits",
    str: "a string",
    list: "a list",
    dict: "an object",
    type(None): "null",
}


class TensorPlan(NamedTuple):
    """One tensor of a signature, as requests are checked against it."""

    name: str
    datatype: str
    dtype: np.dtype[np.generic]
    shape: tuple[int | None, ...]
    json_types: frozenset[type]
    json_noun: str
    float_code: str | None

    @classmethod
    def of(cls, spec: TensorSpec) -> "TensorPlan":
        """Work out the plan of one tensor."""
        types: frozenset[type] = frozenset({int})
        noun = "whole numbers"
        if spec.datatype in _FLOATS:
            types, noun = frozenset({int, float}), "numbers"
        elif spec.datatype is Datatype.BOOL:
            types, noun = frozenset({bool}), "true or false"
        elif spec.datatype is Datatype.BYTES:
            types, noun = frozenset({str, bytes}), "strings"
        return cls(
            name=spec.name,
            datatype=spec.datatype.value,
            dtype=np.dtype(spec.datatype.numpy_name),
            shape=spec.shape,
            json_types=types,
            json_noun=noun,
            float_code=_FLOATS.get(spec.datatype),
        )


class WantedOutput(NamedTuple):
    """One output to answer with."""

    plan: TensorPlan
    binary: bool
    """As bytes behind the JSON."""


class SignaturePlan(NamedTuple):
    """A signature, as requests and answers are checked against it."""

    inputs: tuple[TensorPlan, ...]
    outputs: tuple[TensorPlan, ...]
    input_names: list[str]
    all_as_json: tuple[WantedOutput, ...]
    """What is answered if nothing is asked for."""
    batched: bool

    @classmethod
    def of(cls, signature: Signature) -> "SignaturePlan":
        """Work out the plan of a signature."""
        outputs = tuple(TensorPlan.of(spec) for spec in signature.outputs)
        return cls(
            inputs=tuple(TensorPlan.of(spec) for spec in signature.inputs),
            outputs=outputs,
            input_names=[spec.name for spec in signature.inputs],
            all_as_json=tuple(WantedOutput(tensor, binary=False) for tensor in outputs),
            batched=signature.batched,
        )

    def rows(self, inputs: Arrays) -> int:
        """Samples in one request: the size of axis 0, or 1 where the signature is not batched."""
        return len(next(iter(inputs.values()))) if self.batched else 1


def to_array(plan: TensorPlan, shape: list[Any], data: object, where: str, *, finite: bool = True) -> Array:
    """Build one tensor from flat or nested values; nothing is allocated before the counts agree.

    Args:
        plan: what the signature says of the tensor.
        shape: the sizes that the request claims.
        data: a flat row-major list, or lists nested as the shape; of JSON values, BYTES also of bytes.
        where: path of the tensor in the request, for messages.
        finite: refuse NaN and infinities.

    Raises:
        InputError: shape, number of values, nesting, or a value does not fit.
    """
    _check_shape(plan, shape, where)
    flat = _flatten(data, shape, where)
    if not plan.json_types.issuperset(map(type, flat)):
        wrong = sorted(_JSON_NAMES[kind] for kind in set(map(type, flat)) - plan.json_types)
        raise InputError(f"{where}.data: expected {plan.json_noun} for {plan.datatype}, got {', '.join(wrong)}")
    try:
        if plan.float_code is not None:
            values = _floats(plan, plan.float_code, flat)
        else:
            values = elements.from_values(flat, where) if plan.dtype.hasobject else np.array(flat, plan.dtype)
    except (OverflowError, struct.error) as error:
        raise InputError(f"{where}.data: a value is out of the range of {plan.datatype}") from error
    if finite and plan.float_code is not None and not _finite(values):
        raise InputError(f"{where}.data: a value is not a finite number")
    return values.reshape(shape)


def from_bytes(plan: TensorPlan, shape: list[Any], data: memoryview, where: str, *, finite: bool = True) -> Array:
    """Build one tensor from its bytes: little-endian values in row-major order; nothing is copied if it need not be.

    Each element of BYTES stands behind its length, four bytes.

    Args:
        plan: what the signature says of the tensor.
        shape: the sizes that the request claims.
        data: the bytes.
        where: path of the tensor in the request, for messages.
        finite: refuse NaN and infinities.

    Raises:
        InputError: the shape, the number of bytes, or a value does not fit.
    """
    _check_shape(plan, shape, where)
    if plan.dtype.hasobject:
        return elements.unpack(shape, data, where)
    expected = math.prod(shape) * plan.dtype.itemsize
    if len(data) != expected:
        raise InputError(
            f"{where}: expected {expected} bytes for {plan.datatype} of the shape {shape}, got {len(data)}"
        )
    values = np.frombuffer(data, plan.dtype).reshape(shape)
    if plan.datatype == Datatype.BOOL and values.size and values.view(np.uint8).max() > 1:
        raise InputError(f"{where}: expected bytes of 0 or 1 for BOOL")
    if finite and plan.float_code is not None and not _finite(values):
        raise InputError(f"{where}: a value is not a finite number")
    return values if values.flags.aligned else values.copy()


def to_bytes(plan: TensorPlan, array: Array) -> bytes:
    """Write one tensor as ``from_bytes`` reads it."""
    return elements.pack(array) if plan.dtype.hasobject else array.tobytes()


def to_values(plan: TensorPlan, array: Array) -> Array | list[str]:
    """Return the flat values of one tensor in a form that JSON is written from: numbers, or strings for BYTES.

    Raises:
        InputError: an element of BYTES is not text; the client must ask for this output in binary.
    """
    if plan.dtype.hasobject:
        return elements.to_text(array, plan.name)
    flat = array.reshape(-1)
    return flat.astype(np.float32) if plan.dtype == _BFLOAT16 else flat


def check_names(plan: SignaturePlan, names: list[str], where: str) -> None:
    """Check that the names are those of the signature's inputs, each once, in any order.

    Raises:
        InputError: one is missing, unknown or given twice.
    """
    if names != plan.input_names and sorted(names) != sorted(plan.input_names):
        raise InputError(f"{where}: expected exactly {plan.input_names}, got {names!r:.200}")


def check_rows(plan: SignaturePlan, inputs: Arrays) -> None:
    """Check that all inputs of a batched signature hold the same number of samples.

    Raises:
        InputError: they do not.
    """
    if plan.batched and len(inputs) > 1 and len({len(values) for values in inputs.values()}) > 1:
        sizes = {name: len(values) for name, values in inputs.items()}
        raise InputError(f"inputs: every input needs the same number of samples on axis 0, got {sizes}")


def from_lists(plan: SignaturePlan, values: dict[str, list[Any]], *, finite: bool = True) -> Arrays:
    """Build all inputs from nested lists by name, the shapes taken from the nesting; ``finite`` refuses NaN.

    Raises:
        InputError: an input is missing, unknown or does not fit.
    """
    check_names(plan, list(values), "inputs")
    inputs: Arrays = {}
    for tensor in plan.inputs:
        data = values[tensor.name]
        shape = _nesting(data, len(tensor.shape))
        inputs[tensor.name] = to_array(tensor, shape, data, f"inputs.{tensor.name}", finite=finite)
    check_rows(plan, inputs)
    return inputs


def to_lists(plan: SignaturePlan, outputs: Arrays) -> dict[str, list[Any]]:
    """Return all outputs as nested lists by name.

    Raises:
        InputError: an element of BYTES is not text.
    """
    nested = {}
    for tensor in plan.outputs:
        array = outputs[tensor.name]
        values = to_values(tensor, array)
        if tensor.dtype.hasobject:
            values = np.array(values, object)  # as NumPy's own text they would lose NULs at their end
        nested[tensor.name] = np.reshape(values, array.shape).tolist()
    return nested


def _check_shape(plan: TensorPlan, shape: list[Any], where: str) -> None:
    if len(shape) != len(plan.shape):
        expected = [-1 if size is None else size for size in plan.shape]
        raise InputError(f"{where}.shape: expected {len(expected)} sizes {expected}, got {len(shape)}")
    for axis, size in enumerate(shape):
        if type(size) is not int or size < 1:
            raise InputError(f"{where}.shape[{axis}]: expected a whole number of at least 1, got {size!r:.40}")
        if size != plan.shape[axis] and plan.shape[axis] is not None:
            raise InputError(f"{where}.shape[{axis}]: expected {plan.shape[axis]}, got {size}")


def _flatten(data: object, shape: list[int], where: str) -> Sequence[object]:
    if type(data) is not list:
        raise InputError(f"{where}.data: expected a list of values")
    if len(shape) > 1 and data and type(data[0]) is list:
        return _flatten_nested(data, shape, where)
    if len(data) != math.prod(shape):
        raise InputError(f"{where}.data: expected {math.prod(shape)} values for the shape {shape}, got {len(data)}")
    return data


def _flatten_nested(data: list[Any], shape: list[int], where: str) -> list[object]:
    if len(data) != shape[0]:
        raise InputError(f"{where}.data: expected {shape[0]} lists for the shape {shape}, got {len(data)}")
    for axis, size in enumerate(shape[1:], start=1):
        if set(map(type, data)) != {list} or set(map(len, data)) != {size}:
            raise InputError(f"{where}.data: expected lists of {size} at depth {axis} for the shape {shape}")
        data = list(chain.from_iterable(data))
    return data


def _floats(plan: TensorPlan, code: str, flat: Sequence[Any]) -> npt.NDArray[Any]:
    values: npt.NDArray[Any] = np.frombuffer(struct.pack(f"<{len(flat)}{code}", *flat), code)
    largest = _LARGEST.get(plan.dtype)
    if largest is None:
        return values
    if ((np.abs(values) > largest) & np.isfinite(values)).any():
        raise OverflowError
    return values.astype(plan.dtype)


def _finite(values: npt.NDArray[Any]) -> bool:
    """True if there is no NaN and no infinity; a search in bytes is quicker than NumPy's ``all``."""
    return b"\0" not in np.isfinite(values).tobytes()


def _nesting(data: object, rank: int) -> list[int]:
    shape: list[int] = []
    while type(data) is list and len(shape) <= rank:
        shape.append(len(data))
        data = data[0] if data else None
    return shape
