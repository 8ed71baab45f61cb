"""JSON values to arrays, checked against a signature; messages name the field that is wrong."""

import math
from itertools import chain
from typing import Any

import numpy as np

from registry.errors import InputError
from registry.records.model import Datatype, Signature, TensorSpec
from serving.runtime import Array, Arrays

NUMPY_TYPES = {datatype: np.dtype(datatype.numpy_name) for datatype in Datatype}

_FLOATS = frozenset({Datatype.FP16, Datatype.FP32, Datatype.FP64})


def to_array(spec: TensorSpec, shape: list[int], data: object, where: str) -> Array:
    """Build one tensor from flat or nested JSON numbers; nothing is allocated before the counts agree.

    Args:
        spec: what the signature says of the tensor.
        shape: the sizes that the request claims.
        data: a flat row-major list, or lists nested as the shape.
        where: path of the tensor in the request, for messages.

    Raises:
        InputError: shape, number of values, nesting, or a value does not fit.
    """
    check_shape(spec, shape, f"{where}.shape")
    flat = _flatten(data, shape, f"{where}.data")
    _check_types(spec, flat, f"{where}.data")
    try:
        with np.errstate(over="ignore"):
            array = np.array(flat, NUMPY_TYPES[spec.datatype])
    except OverflowError as error:
        raise InputError(f"{where}.data: a value is out of the range of {spec.datatype}") from error
    if spec.datatype in _FLOATS and not np.isfinite(array).all():
        raise InputError(f"{where}.data: a value is out of the range of {spec.datatype}")
    return array.reshape(shape)


def check_shape(spec: TensorSpec, shape: list[int], where: str) -> None:
    """Compare a claimed shape with the signature's.

    Raises:
        InputError: rank or a size is wrong.
    """
    if len(shape) != len(spec.shape):
        raise InputError(f"{where}: expected {len(spec.shape)} sizes {_show(spec)}, got {len(shape)}")
    for axis, (size, expected) in enumerate(zip(shape, spec.shape, strict=True)):
        if type(size) is not int or size < 1:
            raise InputError(f"{where}[{axis}]: expected a whole number of at least 1, got {size!r:.40}")
        if expected is not None and size != expected:
            raise InputError(f"{where}[{axis}]: expected {expected}, got {size}")


def check_rows(signature: Signature, inputs: Arrays) -> None:
    """Check that all inputs of a batched signature hold the same number of samples.

    Raises:
        InputError: they do not.
    """
    if len(inputs) == 1 or not signature.batched:
        return
    sizes = {name: len(array) for name, array in inputs.items()}
    if len(set(sizes.values())) > 1:
        raise InputError(f"inputs: every input needs the same number of samples on axis 0, got {sizes}")


def from_lists(signature: Signature, values: dict[str, list[Any]]) -> Arrays:
    """Build all inputs from nested lists by name, the shapes taken from the nesting.

    Raises:
        InputError: an input is missing, unknown or does not fit.
    """
    check_names(signature, list(values), "inputs")
    inputs = {
        spec.name: to_array(
            spec, _nesting(values[spec.name], len(spec.shape)), values[spec.name], f"inputs.{spec.name}"
        )
        for spec in signature.inputs
    }
    check_rows(signature, inputs)
    return inputs


def check_names(signature: Signature, names: list[str], where: str) -> None:
    """Check that the names are those of the signature's inputs, each once.

    Raises:
        InputError: one is missing, unknown or given twice.
    """
    expected = [spec.name for spec in signature.inputs]
    missing = [name for name in expected if name not in names]
    unknown = [name for name in names if name not in expected]
    if missing or unknown or len(names) != len(expected):
        raise InputError(f"{where}: expected exactly {expected}, got {names!r:.200}")


def _flatten(data: object, shape: list[int], where: str) -> list[object]:
    if type(data) is not list:
        raise InputError(f"{where}: expected a list of values")
    if len(shape) < 2 or not data or type(data[0]) is not list:
        count = math.prod(shape)
        if len(data) != count:
            raise InputError(f"{where}: expected {count} values for the shape {shape}, got {len(data)}")
        return data
    return _flatten_nested(data, shape, where)


def _flatten_nested(data: list[Any], shape: list[int], where: str) -> list[object]:
    if len(data) != shape[0]:
        raise InputError(f"{where}: expected {shape[0]} lists for the shape {shape}, got {len(data)}")
    for axis, size in enumerate(shape[1:], start=1):
        if set(map(type, data)) != {list} or set(map(len, data)) != {size}:
            raise InputError(f"{where}: expected lists of {size} at depth {axis} for the shape {shape}")
        data = list(chain.from_iterable(data))
    return data


def _check_types(spec: TensorSpec, flat: list[object], where: str) -> None:
    found = set(map(type, flat))
    if spec.datatype in _FLOATS:
        allowed, noun = {int, float}, "numbers"
    elif spec.datatype is Datatype.BOOL:
        allowed, noun = {bool}, "true or false"
    else:
        allowed, noun = {int}, "whole numbers"
    if not found <= allowed:
        wrong = sorted(_JSON_NAMES.get(kind, "object") for kind in found - allowed)
        raise InputError(f"{where}: expected {noun} for {spec.datatype}, got {', '.join(wrong)}")


_JSON_NAMES: dict[type, str] = {
    bool: "true or false",
    int: "whole number",
    float: "fraction or very large number",
    str: "string",
    list: "list",
    type(None): "null",
}


def _nesting(data: object, rank: int) -> list[int]:
    shape: list[int] = []
    while type(data) is list and len(shape) <= rank:
        shape.append(len(data))
        data = data[0] if data else None
    return shape


def _show(spec: TensorSpec) -> list[int]:
    return [-1 if size is None else size for size in spec.shape]
