"""How gRPC stands on HTTP/2: the prefix of messages, status and metadata in headers, deadlines.

Source: https://github.com/grpc/grpc, doc/PROTOCOL-HTTP2.md, doc/statuscodes.md and doc/compression.md.
"""

import re
from enum import IntEnum
from functools import lru_cache
from struct import Struct
from typing import Any, NamedTuple
from urllib.parse import quote

from google.protobuf.message import DecodeError

from registry.errors import InputError
from serving.doors.hpack import block
from serving.doors.http_messages import Headers

_PREFIX = Struct(">?L")
PREFIX_BYTES = _PREFIX.size
"""Before each message: if it is compressed, and its length."""

_IDENTITY = b"identity"
_CODINGS = frozenset({b"gzip", b"deflate"})
_ACCEPTED = (b"grpc-accept-encoding", b"identity,deflate,gzip")
HEAD = block([(b":status", b"200"), (b"content-type", b"application/grpc"), _ACCEPTED])
"""Before the messages of an answer, and before the status of one that has none."""
NOT_GRPC = block([(b":status", b"415")])
"""The answer to a request that is no call."""
_OK_TRAILERS = block([(b"grpc-status", b"0")])
_MESSAGE_CHARACTERS = 2000
"""Of a status; clients refuse much larger headers."""

_TYPE = re.compile(rb"application/grpc(\+proto)?(;.*)?")
_TIMEOUT = re.compile(rb"([0-9]{1,8})([HMSmun])")
_SECONDS = {b"H": 3600.0, b"M": 60.0, b"S": 1.0, b"m": 1e-3, b"u": 1e-6, b"n": 1e-9}
_PRINTABLE = "".join(map(chr, range(0x20, 0x7F))).replace("%", "")


class Code(IntEnum):
    """How a call ends."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    RESOURCE_EXHAUSTED = 8
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14

    @property
    def own_fault(self) -> bool:
        """True if whoever runs the server is to look into it."""
        return self in _OWN_FAULTS


_OWN_FAULTS = frozenset({Code.UNKNOWN, Code.DEADLINE_EXCEEDED, Code.INTERNAL, Code.UNAVAILABLE})


Metadata = tuple[tuple[str, str], ...]


class Status(NamedTuple):
    """The end of a call."""

    code: Code = Code.OK
    message: str = ""
    metadata: Metadata = ()
    """Trailing: it goes back with the status."""

    def trailers(self) -> bytes:
        """Write what ends an answer."""
        if self is OK:
            return _OK_TRAILERS
        found = [(b"grpc-status", b"%d" % self.code)]
        if self.message:
            found.append((b"grpc-message", quote(self.message[:_MESSAGE_CHARACTERS], safe=_PRINTABLE).encode()))
        return block(found + [(name.encode(), value.encode("latin-1", "replace")) for name, value in self.metadata])


OK = Status()


class Head(NamedTuple):
    """What the headers of a call say to gRPC itself."""

    method: str
    """Service and name: the path."""
    coding: str | None
    """Of messages that are marked as compressed."""
    timeout_s: float | None


class Refused(Exception):
    """A call that ends before it begins."""

    def __init__(self, code: Code, message: str) -> None:
        """Take how it ends."""
        super().__init__(message)
        self.status = Status(code, message)


class NotGrpc(Exception):
    """A request over HTTP/2 that is no call."""


def read_head(headers: Headers) -> Head:
    """Read a call's headers.

    Raises:
        NotGrpc: they are of no call.
        Refused: they ask for what is not spoken here.
    """
    given = dict(headers)
    if given.get(b":method") != b"POST" or not _TYPE.fullmatch(given.get(b"content-type", b"")):
        raise NotGrpc
    timeout, coding = given.get(b"grpc-timeout"), given.get(b"grpc-encoding", _IDENTITY)
    return Head(
        given.get(b":path", b"").decode("latin-1"),
        _coding(coding) if coding != _IDENTITY else None,
        _seconds(timeout) if timeout is not None else None,
    )


def framed(message: bytes) -> bytes:
    """Return a message with its prefix; it is never compressed."""
    return _PREFIX.pack(False, len(message)) + message


def parsed(kind: Any, body: bytes) -> Any:  # noqa: ANN401 - generated messages have no types
    """Return a message of a kind.

    Raises:
        InputError: it is none.
    """
    try:
        return kind.FromString(body)
    except DecodeError as error:
        raise InputError(f"the message: {error}") from error


class Message(NamedTuple):
    """One message as it came."""

    content: bytes
    compressed: bool


class Messages:
    """Cuts what comes into messages."""

    def __init__(self, limit: int) -> None:
        """Take the largest message."""
        self._limit = limit
        self._kept = bytearray()

    @property
    def size(self) -> int:
        """Bytes that are kept of a message that is not whole."""
        return len(self._kept)

    def feed(self, data: bytes) -> list[Message]:
        """Take some bytes; return the messages that they complete.

        Raises:
            Refused: a message is larger than it may be, as its prefix says.
        """
        if self._kept:
            self._kept += data
            if len(self._kept) < PREFIX_BYTES + self._length(self._kept, 0):
                return []
            data = bytes(self._kept)
            self._kept.clear()
        found, start = [], 0
        while (end := start + PREFIX_BYTES + self._length(data, start)) <= len(data):
            found.append(Message(data[start + PREFIX_BYTES : end], data[start] != 0))
            start = end
        self._kept += data[start:]
        return found

    def _length(self, data: bytes | bytearray, start: int) -> int:
        """Return the length of the message that begins somewhere; 0 where its prefix is not whole."""
        if len(data) - start < PREFIX_BYTES:
            return 0
        length = int.from_bytes(data[start + 1 : start + PREFIX_BYTES])
        if length > self._limit:
            raise Refused(Code.RESOURCE_EXHAUSTED, f"the message is larger than max: {length} vs. {self._limit}")
        return length


@lru_cache(256)  # most clients give all their calls the same time
def _seconds(value: bytes) -> float | None:
    found = _TIMEOUT.fullmatch(value)
    if found is None:
        raise Refused(Code.INTERNAL, "the header grpc-timeout: expected up to 8 digits and a unit, such as 100m")
    return int(found[1]) * _SECONDS[found[2]]


def _coding(value: bytes) -> str:
    if value not in _CODINGS:
        raise Refused(Code.UNIMPLEMENTED, f"the header grpc-encoding: unknown coding {value.decode('latin-1')!r:.40}")
    return value.decode()
