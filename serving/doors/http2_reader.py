"""Frames out of the bytes of an HTTP/2 client: their sizes are checked first, and headers are put together and decoded.

Source: RFC 9113 (HTTP/2), sections 3.4, 4 and 6.10.
"""

from collections.abc import Iterator
from typing import NamedTuple

from serving.doors.hpack import HeaderDecoder, NotHpack
from serving.doors.http2_frames import HEAD_BYTES, PREFACE, Broken, Fault, Flag, Kind, content_of, read_head
from serving.doors.http_messages import Headers

LARGEST_FRAME = 64 * 1024
_OF_HEADERS = (Kind.HEADERS, Kind.CONTINUATION)
_PARTS = 32
"""Frames that headers may come in; a few hold all that they may be."""


class Frame(NamedTuple):
    """One frame; of headers, all of a block."""

    kind: int
    flags: int
    number: int
    """Of its stream; 0: the connection."""
    payload: bytes
    headers: Headers | None = None


class FrameReader:
    """Reads one connection; what is not a whole frame yet is kept, and is less than one."""

    def __init__(self, header_bytes: int) -> None:
        """Take how large headers may be, before and after they are decoded."""
        self._header_bytes = header_bytes
        self._decoder = HeaderDecoder(header_bytes)
        self._greeted = False
        self._left = b""
        self._begun: Frame | None = None
        """Headers that are not whole."""
        self._parts = 0

    def read(self, data: bytes) -> Iterator[Frame]:
        """Yield the frames that are whole with this.

        Raises:
            Broken: this is not HTTP/2, or a frame or headers are too large.
        """
        if self._left:
            data = self._left + data
        at, size = self._greet(data), len(data)
        while self._greeted and size - at >= HEAD_BYTES:
            length, kind, flags, number = read_head(data, at)
            if length > LARGEST_FRAME:
                raise Broken(Fault.FRAME_SIZE_ERROR)
            start, end = at + HEAD_BYTES, at + HEAD_BYTES + length
            if end > size:
                break
            at = end
            frame = Frame(kind, flags, number, data[start:end])
            if kind in _OF_HEADERS or self._begun is not None:
                whole = self._headers(frame)
                if whole is None:
                    continue
                frame = whole
            yield frame
        self._left = data[at:]

    def _greet(self, data: bytes) -> int:
        """Read what a connection begins with; return where the frames begin."""
        if self._greeted:
            return 0
        if not PREFACE.startswith(data[: len(PREFACE)]):
            raise Broken(Fault.PROTOCOL_ERROR)
        self._greeted = len(data) >= len(PREFACE)
        return len(PREFACE) if self._greeted else 0

    def _headers(self, frame: Frame) -> Frame | None:
        """Put headers together; return them if they are whole."""
        begun, first = self._begun, frame
        if begun is None:
            if frame.kind != Kind.HEADERS:
                raise Broken(Fault.PROTOCOL_ERROR)
            payload = content_of(frame.flags, frame.payload)
            self._parts = 0
        elif frame.kind == Kind.CONTINUATION and frame.number == begun.number:
            first, payload = begun, begun.payload + frame.payload
        else:
            raise Broken(Fault.PROTOCOL_ERROR)
        self._parts += 1
        if len(payload) > self._header_bytes or self._parts > _PARTS:
            raise Broken(Fault.ENHANCE_YOUR_CALM)
        if not frame.flags & Flag.END_HEADERS:
            self._begun = Frame(first.kind, first.flags, first.number, payload)
            return None
        self._begun = None
        try:
            headers = self._decoder.decode(payload)
        except NotHpack as error:
            raise Broken(Fault.COMPRESSION_ERROR) from error
        return Frame(first.kind, first.flags, first.number, payload, headers)
