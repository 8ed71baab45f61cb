"""BYTES tensors: arrays of objects, each a ``bytes`` of its own length; on the wire each stands behind its length.

Source: https://github.com/triton-inference-server/server, docs/protocol/extension_binary_data.md.
"""

import math
import struct
import sys
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from registry.errors import InputError
from serving.runtime import Array

_LENGTH = struct.Struct("<I")


def from_values(values: Sequence[Any], where: str) -> Array:
    """Build a flat tensor from strings, meant as UTF-8, and bytes.

    Raises:
        InputError: a string is not Unicode.
    """
    try:
        return _array([value.encode() if type(value) is str else value for value in values])
    except UnicodeEncodeError as error:
        raise InputError(f"{where}.data: a string holds half a character: {error.reason}") from error


def unpack(shape: list[int], data: memoryview, where: str) -> Array:
    """Build a tensor from elements, each behind its length: four bytes, little-endian.

    Raises:
        InputError: the bytes are more or fewer than the elements of the shape; nothing was allocated for those.
    """
    count = math.prod(shape)
    if len(data) < count * _LENGTH.size:
        raise InputError(f"{where}: expected {count} elements, each behind its length, in {len(data)} bytes")
    elements, start = [], 0
    for position in range(count):
        end = start + _LENGTH.size
        left = len(data) - end
        size = _LENGTH.unpack_from(data, start)[0] if left >= 0 else 0
        if size > left:
            raise InputError(f"{where}: element {position} of {count} is cut short")
        start = end + size
        elements.append(bytes(data[end:start]))
    if start != len(data):
        raise InputError(f"{where}: {len(data) - start} bytes stand behind the last of {count} elements")
    return _array(elements).reshape(shape)


def pack(array: Array) -> bytes:
    """Write a tensor as ``unpack`` reads it."""
    return b"".join(part for element in array.reshape(-1).tolist() for part in (_LENGTH.pack(len(element)), element))


def to_text(array: Array, name: str) -> list[str]:
    """Return the elements of an output, flat, as strings.

    Raises:
        InputError: one is not text; the client must ask for this output in binary.
    """
    try:
        return [element.decode() for element in array.reshape(-1).tolist()]
    except UnicodeDecodeError as error:
        raise InputError(
            f"outputs: {name!r} holds bytes that are not text in UTF-8, which JSON cannot carry; "
            "ask for it with the parameter binary_data"
        ) from error


def held_bytes(array: Array) -> int:
    """Return the memory that a tensor of any datatype holds."""
    return array.nbytes + (sum(map(sys.getsizeof, array.reshape(-1).tolist())) if array.dtype.hasobject else 0)


def kept_bytes(arrays: Iterable[Array]) -> int:
    """Return the memory that is not freed while tensors are there: a view keeps the whole body, or batch, it is of."""
    kept: dict[int, int] = {}
    for array in arrays:
        while isinstance(array.base, np.ndarray):
            array = array.base
        base: Any = array.base  # of an array that was made from bytes it is those, or a view of them
        if isinstance(base, memoryview):
            base = base.obj
        if isinstance(base, bytes):
            kept[id(base)] = len(base)
        else:
            kept[id(array)] = held_bytes(array)
    return sum(kept.values())


def _array(elements: list[bytes]) -> Array:
    array = np.empty(len(elements), object)
    array[:] = elements
    return array
