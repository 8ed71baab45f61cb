"""The answers on an HTTP/2 connection: sent as far as windows and socket have room, those of a round in one write.

Source: RFC 9113 (HTTP/2), sections 5.2 and 6.9.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from serving.doors.http2_frames import (
    FIRST_WINDOW,
    LARGEST_WINDOW,
    SMALLEST_LIMIT,
    Broken,
    Fault,
    Kind,
    frame,
    headers_frames,
)

_FLUSH_BYTES = 256 * 1024


@dataclass(slots=True)
class _Stream:
    """What a client has room for, and what waits for more of it."""

    window: int
    parts: deque[memoryview] = field(default_factory=deque)
    trailers: bytes | None = None
    sent: asyncio.Future[None] | None = None

    def settle(self) -> None:
        """Let whoever waits until all is sent go on."""
        if self.sent is not None and not self.sent.done():
            self.sent.set_result(None)


class Http2Writer:
    """Writes to one client."""

    full = False
    """The socket takes no more for now."""
    transport: asyncio.Transport
    """Set when there is one."""

    def __init__(self, over: Callable[[int], None]) -> None:
        """Take what is told when the answer of a stream is sent."""
        self._over = over
        self._loop = asyncio.get_running_loop()
        self._window = FIRST_WINDOW
        self._first_window = FIRST_WINDOW
        self._limit = SMALLEST_LIMIT
        self._streams: dict[int, _Stream] = {}
        self._out: list[bytes] = []

    def open(self, number: int) -> None:
        """Begin with a stream."""
        self._streams[number] = _Stream(self._first_window)

    def close(self, number: int) -> None:
        """Be done with a stream, whatever waits of it."""
        stream = self._streams.pop(number, None)
        if stream is not None:
            stream.settle()

    def write(self, frames: bytes) -> None:
        """Write frames with whatever else is written in this round."""
        if not self._out:
            self._loop.call_soon(self.flush)
        self._out.append(frames)

    def flush(self) -> None:
        """Write all that there is."""
        out, self._out = self._out, []
        if out and not self.transport.is_closing():
            self.transport.write(out[0] if len(out) == 1 else b"".join(out))

    # The windows, as the client opens them.

    def give(self, number: int, size: int) -> bool:
        """Have more room: of a stream, or with 0 of the connection; return whether anything waited for it.

        Raises:
            Broken: it is more than there can be.
        """
        if number == 0:
            self._window += size
            if self._window > LARGEST_WINDOW:
                raise Broken(Fault.FLOW_CONTROL_ERROR)
            return self.send_waiting()
        stream = self._streams.get(number)
        if stream is None:
            return False
        stream.window += size
        if stream.window > LARGEST_WINDOW:
            raise Broken(Fault.FLOW_CONTROL_ERROR)
        waited = bool(stream.parts)
        if waited:
            self._send_some(number)
        return waited

    def settle(self, first_window: int | None, limit: int | None) -> None:
        """Take what the client says of the windows of all streams, and of the size of frames."""
        if first_window is not None:
            for stream in self._streams.values():
                stream.window += first_window - self._first_window
            self._first_window = first_window
        if limit is not None:
            self._limit = limit
        self.send_waiting()

    # Answers.

    def begin(self, number: int, head: bytes) -> None:
        """Begin an answer."""
        self.write(headers_frames(number, head, end=False))

    def send(self, number: int, content: bytes) -> None:
        """Send a part of an answer, as soon as there is room for it."""
        stream, size = self._streams[number], len(content)
        if not stream.parts and not self.full and size <= min(self._limit, self._window, stream.window):
            self._window -= size
            stream.window -= size
            self.write(frame(Kind.DATA, 0, number, content))
        else:
            stream.parts.append(memoryview(content))
            self._send_some(number)

    def end(self, number: int, trailers: bytes) -> None:
        """End an answer, behind what is not sent of it."""
        stream = self._streams[number]
        if stream.parts:
            stream.trailers = trailers
        else:
            self.write(headers_frames(number, trailers, end=True))
            self._over(number)

    async def sent(self, number: int) -> None:
        """Wait until all that was to be sent of an answer has gone, or the client has."""
        stream = self._streams.get(number)
        if stream is not None and stream.parts:
            stream.sent = self._loop.create_future()
            await stream.sent

    def send_waiting(self) -> bool:
        """Send what there is room for; return whether anything waited."""
        waiting = [number for number, stream in self._streams.items() if stream.parts]
        for number in waiting:
            self._send_some(number)
        return bool(waiting)

    def _send_some(self, number: int) -> None:
        """Send what there is room for of a stream."""
        stream, unflushed = self._streams[number], 0
        while stream.parts and not self.full:
            room = min(self._limit, self._window, stream.window)
            if room <= 0:
                return
            part = stream.parts.popleft()
            if len(part) > room:
                stream.parts.appendleft(part[room:])
                part = part[:room]
            self._window -= len(part)
            stream.window -= len(part)
            self.write(frame(Kind.DATA, 0, number, part))
            unflushed += len(part)
            if unflushed > _FLUSH_BYTES:
                unflushed = 0
                self.flush()  # which may find the socket full
        if stream.parts:
            return
        stream.settle()
        if stream.trailers is not None:
            self.end(number, stream.trailers)
