"""Thrift's compact protocol, as Parquet's footer and page headers use it: read within bounds into plain values.

Source: apache/thrift, doc/specs/thrift-compact-protocol.md.
"""

from typing import BinaryIO

from registry.errors import InputError

Struct = dict[int, object]
"""Values by field number: integers, bytes, lists, structs; None for what is passed over (floats, maps)."""

_TRUE, _FALSE, _BYTE, _INTEGERS, _DOUBLE, _BINARY, _LISTS, _MAP, _STRUCT = 1, 2, 3, (4, 5, 6), 7, 8, (9, 10), 11, 12
_MAX_DEPTH = 16
_MAX_VALUES = 4_000_000
_MAX_TEXT_BYTES = 1 << 16


class CompactReader:
    """Reads structs from an open file, up to an end."""

    def __init__(self, stream: BinaryIO, start: int, end: int) -> None:
        """Begin at a place of the file."""
        self._stream = stream
        self._end = end
        self._left = _MAX_VALUES
        stream.seek(start)

    @property
    def position(self) -> int:
        """Where the next byte is read from."""
        return self._stream.tell()

    def struct(self, depth: int = 0) -> Struct:
        """Read one struct.

        Raises:
            InputError: it is damaged, nested too deeply, or runs over the end.
        """
        if depth > _MAX_DEPTH:
            raise InputError("the Parquet metadata is nested too deeply")
        found: Struct = {}
        number = 0
        while head := self._byte():
            number = number + (head >> 4) if head >> 4 else self._zigzag()
            found[number] = self._value(head & 0x0F, depth, in_list=False)
        return found

    def _value(self, kind: int, depth: int, *, in_list: bool) -> object:
        self._left -= 1
        if self._left < 0:
            raise InputError(f"the Parquet metadata has more than {_MAX_VALUES} values")
        if kind in (_TRUE, _FALSE):
            return self._byte() == _TRUE if in_list else kind == _TRUE
        if kind == _BYTE:
            return self._byte()
        if kind in _INTEGERS:
            return self._zigzag()
        if kind == _BINARY:
            return self._binary()
        if kind == _STRUCT:
            return self.struct(depth + 1)
        return self._container(kind, depth)

    def _container(self, kind: int, depth: int) -> object:
        if kind in _LISTS:
            head = self._byte()
            count = head >> 4 if head >> 4 != 15 else self._varint()
            return [self._value(head & 0x0F, depth, in_list=True) for _ in range(self._at_most(count))]
        if kind == _MAP:
            count = self._at_most(self._varint())
            kinds = self._byte() if count else 0
            for _ in range(count):
                self._value(kinds >> 4, depth, in_list=True)
                self._value(kinds & 0x0F, depth, in_list=True)
            return None
        if kind == _DOUBLE:
            self._take(8)
            return None
        raise InputError(f"the Parquet metadata is damaged at byte {self.position}")

    def _at_most(self, count: int) -> int:
        """Every element takes a byte at least: what is left bounds what can be there."""
        if count > self._end - self.position:
            raise InputError(f"the Parquet metadata declares {count} values at byte {self.position}, more than it has")
        return count

    def _binary(self) -> bytes:
        length = self._varint()
        if length > self._end - self.position:
            raise InputError(f"the Parquet metadata declares {length} bytes at byte {self.position}, more than it has")
        text = self._take(min(length, _MAX_TEXT_BYTES))
        self._stream.seek(length - len(text), 1)
        return text

    def _zigzag(self) -> int:
        value = self._varint()
        return (value >> 1) ^ -(value & 1)

    def _varint(self) -> int:
        value = 0
        for shift in range(0, 70, 7):
            byte = self._byte()
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
        raise InputError(f"the Parquet metadata is damaged at byte {self.position}")

    def _byte(self) -> int:
        return self._take(1)[0]

    def _take(self, count: int) -> bytes:
        taken = self._stream.read(count)
        if len(taken) != count or self.position > self._end:
            raise InputError(f"the Parquet metadata breaks off at byte {self.position}")
        return taken
