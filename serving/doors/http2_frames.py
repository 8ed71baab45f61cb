"""The frames of HTTP/2, as bytes: what is common to all of them, and those that a server writes.

Source: RFC 9113 (HTTP/2), sections 4 to 7.
"""

from collections.abc import Iterator
from enum import IntEnum
from struct import Struct

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
HEAD_BYTES = 9
PING_BYTES = 8
SMALLEST_LIMIT = 16_384
"""Of a frame's payload: what every side takes."""
FIRST_WINDOW = 65_535
LARGEST_WINDOW = 2**31 - 1

_HEAD = Struct(">BHBBL")
_LONG = Struct(">L")
_SETTING = Struct(">HL")
_NUMBER = 2**31 - 1


class Kind(IntEnum):
    """Of a frame."""

    DATA = 0
    HEADERS = 1
    PRIORITY = 2
    RST_STREAM = 3
    SETTINGS = 4
    PUSH_PROMISE = 5
    PING = 6
    GOAWAY = 7
    WINDOW_UPDATE = 8
    CONTINUATION = 9


class Flag:
    """What a frame says beside its payload; plain numbers, for they are looked at in every frame."""

    ACK = 0x1
    """Of settings and pings."""
    END_STREAM = 0x1
    END_HEADERS = 0x4
    PADDED = 0x8
    PRIORITY = 0x20


class Fault(IntEnum):
    """Why a connection or a stream ends."""

    NO_ERROR = 0
    PROTOCOL_ERROR = 1
    FLOW_CONTROL_ERROR = 3
    STREAM_CLOSED = 5
    FRAME_SIZE_ERROR = 6
    REFUSED_STREAM = 7
    COMPRESSION_ERROR = 9
    ENHANCE_YOUR_CALM = 11


class Setting(IntEnum):
    """What one side tells the other at the beginning."""

    ENABLE_PUSH = 2
    MAX_CONCURRENT_STREAMS = 3
    INITIAL_WINDOW_SIZE = 4
    MAX_FRAME_SIZE = 5
    MAX_HEADER_LIST_SIZE = 6


class Broken(Exception):
    """A client that does not keep to the protocol: nothing more of the connection can be read."""

    def __init__(self, fault: Fault) -> None:
        """Take what it is told."""
        super().__init__(fault.name)
        self.fault = fault


def read_head(data: bytes, at: int) -> tuple[int, int, int, int]:
    """Return length, kind, flags and stream of the frame that begins somewhere."""
    high, low, kind, flags, number = _HEAD.unpack_from(data, at)
    return high << 16 | low, kind, flags, number & _NUMBER


def frame(kind: int, flags: int, number: int, payload: bytes | memoryview) -> bytes:
    """Write a frame."""
    size = len(payload)
    return b"".join((_HEAD.pack(size >> 16, size & 0xFFFF, kind, flags, number), payload))


def reset(number: int, fault: Fault) -> bytes:
    """Write the end of a stream."""
    return frame(Kind.RST_STREAM, 0, number, _LONG.pack(fault))


def goodbye(last: int, fault: Fault) -> bytes:
    """Write the end of a connection, after which streams up to the last are still answered."""
    return frame(Kind.GOAWAY, 0, 0, _LONG.pack(last) + _LONG.pack(fault))


def more(number: int, size: int) -> bytes:
    """Write how many bytes more may come of a stream; 0: of the connection."""
    return frame(Kind.WINDOW_UPDATE, 0, number, _LONG.pack(size))


def settings(values: dict[Setting, int]) -> bytes:
    """Write what the other side is to keep to."""
    return frame(Kind.SETTINGS, 0, 0, b"".join(_SETTING.pack(*one) for one in values.items()))


def read_settings(payload: bytes) -> Iterator[tuple[int, int]]:
    """Yield what the other side wants.

    Raises:
        Broken: it wants what cannot be.
    """
    if len(payload) % _SETTING.size:
        raise Broken(Fault.FRAME_SIZE_ERROR)
    for name, value in _SETTING.iter_unpack(payload):
        if name == Setting.INITIAL_WINDOW_SIZE and value > LARGEST_WINDOW:
            raise Broken(Fault.FLOW_CONTROL_ERROR)
        if name == Setting.MAX_FRAME_SIZE and not SMALLEST_LIMIT <= value < 2**24:
            raise Broken(Fault.PROTOCOL_ERROR)
        if name == Setting.ENABLE_PUSH and value > 1:
            raise Broken(Fault.PROTOCOL_ERROR)
        yield name, value


def read_long(payload: bytes) -> int:
    """Return the number that a payload is.

    Raises:
        Broken: it has another size.
    """
    if len(payload) != _LONG.size:
        raise Broken(Fault.FRAME_SIZE_ERROR)
    return int.from_bytes(payload) & _NUMBER


def content_of(flags: int, payload: bytes) -> bytes:
    """Return a payload without what it is padded with, and without the priority before headers.

    Raises:
        Broken: there is more padding than payload.
    """
    start, end = 0, len(payload)
    if flags & Flag.PADDED:
        if not payload:
            raise Broken(Fault.FRAME_SIZE_ERROR)
        start, end = 1, end - payload[0]
    if flags & Flag.PRIORITY:
        start += 5
    if start > end:
        raise Broken(Fault.PROTOCOL_ERROR)
    return payload[start:end]


def headers_frames(number: int, written: bytes, *, end: bool) -> bytes:
    """Write the frames of a block of headers; the last one of a stream says so."""
    flags = Flag.END_STREAM if end else 0
    if len(written) <= SMALLEST_LIMIT:
        return frame(Kind.HEADERS, flags | Flag.END_HEADERS, number, written)
    parts = [written[at : at + SMALLEST_LIMIT] for at in range(0, len(written), SMALLEST_LIMIT)]
    found = [frame(Kind.HEADERS, flags, number, parts[0])]
    found += [frame(Kind.CONTINUATION, 0, number, part) for part in parts[1:-1]]
    return b"".join([*found, frame(Kind.CONTINUATION, Flag.END_HEADERS, number, parts[-1])])
