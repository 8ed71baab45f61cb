"""ONNX models, walked field by field without loading them: what weights lie in other files.

Source: onnx/onnx-ml.proto (the field numbers), protobuf's wire format.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from registry.errors import InputError
from registry.uploads.limits import MAX_ONNX_BYTES

MAX_FIELDS = 2_000_000
"""Fields that are looked at; a real model of 10,000 operators has some 200,000. Each becomes an object when loaded."""

_MAX_DEPTH = 64
_MAX_TEXT_BYTES = 4096
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_FIXED_BYTES = {_FIXED64: 8, _FIXED32: 4}

MESSAGES: dict[str, dict[int, str]] = {
    "ModelProto": {7: "GraphProto", 20: "TrainingInfoProto", 25: "FunctionProto"},
    "GraphProto": {1: "NodeProto", 5: "TensorProto", 15: "SparseTensorProto"},
    "NodeProto": {5: "AttributeProto"},
    "AttributeProto": {
        5: "TensorProto",
        6: "GraphProto",
        10: "TensorProto",
        11: "GraphProto",
        22: "SparseTensorProto",
        23: "SparseTensorProto",
    },
    "SparseTensorProto": {1: "TensorProto", 2: "TensorProto"},
    "FunctionProto": {7: "NodeProto", 11: "AttributeProto"},
    "TrainingInfoProto": {1: "GraphProto", 2: "GraphProto"},
    "TensorProto": {},
}
"""The messages that hold tensors, by field number; all others are passed over."""

_NAME, _EXTERNAL_DATA, _DATA_LOCATION = 8, 13, 14
_EXTERNAL = 1


@dataclass(frozen=True)
class ExternalTensor:
    """A weight whose bytes lie in another file."""

    name: str
    location: str
    offset: int = 0
    length: int | None = None
    """None: to the end of the file."""


def external_tensors(stream: BinaryIO, size: int) -> Iterator[ExternalTensor]:
    """Walk an ONNX model and return what it keeps in other files.

    Raises:
        InputError: it is not a whole ONNX model, or one beyond a bound.
    """
    if size > MAX_ONNX_BYTES:
        raise InputError(
            f"an ONNX model of {size} bytes is larger than protobuf can read ({MAX_ONNX_BYTES}); save its weights as "
            "external data and send both as a .zip"
        )
    walk = _Walk(stream)
    stream.seek(0)
    graphs = 0
    for number, wire, end in walk.fields(size):
        if number == 7 and wire == _BYTES:
            graphs += 1
        yield from walk.into("ModelProto", number, wire, end, depth=0)
    if not graphs:
        raise InputError("the file is not an ONNX model: it has no graph")


class _Walk:
    """One pass over a file's fields; the position is the stream's."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._left = MAX_FIELDS

    def into(self, message: str, number: int, wire: int, end: int, *, depth: int) -> Iterator[ExternalTensor]:
        """Look into a field of a message, up to its end, where it may hold tensors."""
        inner = MESSAGES[message].get(number)
        if inner is None:
            return
        if wire != _BYTES or depth > _MAX_DEPTH:
            raise InputError(f"the ONNX model is damaged or nested too deeply: field {number} of a {message}")
        if inner == "TensorProto":
            yield from self._tensor(end)
            return
        for field, kind, field_end in self.fields(end):
            yield from self.into(inner, field, kind, field_end, depth=depth + 1)

    def fields(self, end: int) -> Iterator[tuple[int, int, int]]:
        """Yield number, wire type and end of each field up to ``end``; what was not read of it is passed over."""
        while (position := self._stream.tell()) < end:
            self._left -= 1
            if self._left < 0:
                raise InputError(f"the ONNX model has more than {MAX_FIELDS} fields")
            key = self._varint(end)
            number, wire = key >> 3, key & 7
            if wire == _BYTES:
                field_end = self._varint(end) + self._stream.tell()
            elif wire in _FIXED_BYTES:
                field_end = self._stream.tell() + _FIXED_BYTES[wire]
            elif wire == _VARINT:
                field_end = self._end_of_varint(end)
            else:
                raise InputError(f"the file is not an ONNX model: byte {position} begins no field")
            if not number or field_end > end:
                raise InputError(f"the file is not a whole ONNX model: the field at byte {position} does not end in it")
            yield number, wire, field_end
            self._stream.seek(field_end)

    def _tensor(self, end: int) -> Iterator[ExternalTensor]:
        name, external = "", False
        entries: dict[str, str] = {}
        for number, wire, field_end in self.fields(end):
            if number == _NAME and wire == _BYTES:
                name = self._text(field_end)
            elif number == _DATA_LOCATION and wire == _VARINT:
                external = self._varint(end) == _EXTERNAL
            elif number == _EXTERNAL_DATA and wire == _BYTES:
                key, value = self._entry(field_end)
                if key in entries:
                    raise InputError(f"the weight {name!r} names its {key} twice")
                entries[key] = value
        if external or entries:
            yield _external(name, entries)

    def _entry(self, end: int) -> tuple[str, str]:
        found = {1: "", 2: ""}
        for number, wire, field_end in self.fields(end):
            if number in found and wire == _BYTES:
                found[number] = self._text(field_end)
        return found[1], found[2]

    def _text(self, end: int) -> str:
        length = end - self._stream.tell()
        if length > _MAX_TEXT_BYTES:
            raise InputError(f"the ONNX model has a weight with a name or location of {length} bytes")
        return self._stream.read(length).decode("utf-8", errors="replace")

    def _varint(self, end: int) -> int:
        value = 0
        for shift in range(0, 70, 7):
            byte = self._stream.read(1)
            if not byte or self._stream.tell() > end:
                break
            value |= (byte[0] & 0x7F) << shift
            if byte[0] < 0x80:
                return value
        raise InputError(f"the file is not a whole ONNX model: it breaks off at byte {self._stream.tell()}")

    def _end_of_varint(self, end: int) -> int:
        """Where a varint ends; the stream stays at its beginning."""
        start = self._stream.tell()
        self._varint(end)
        field_end = self._stream.tell()
        self._stream.seek(start)
        return field_end


def _external(name: str, entries: dict[str, str]) -> ExternalTensor:
    numbers: dict[str, int] = {}
    for key in ("offset", "length"):
        text = entries.get(key, "")
        if key in entries and not (text.isascii() and text.isdigit() and len(text) <= 19):
            raise InputError(f"the weight {name!r} has {text[:40]!r} for its {key}; expected a number of bytes")
        if text:
            numbers[key] = int(text)
    return ExternalTensor(name, entries.get("location", ""), numbers.get("offset", 0), numbers.get("length"))
