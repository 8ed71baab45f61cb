"""HTTP/2 for calls: what a client asks is put together, answered, and bounded in what it can cost.

A general library keeps a machine of states for each stream, which takes longer than a quick model; a server that only
answers needs little of it.

Source: RFC 9113 (HTTP/2), sections 5.1, 6 and 10.5.
"""

import asyncio
import math
from collections.abc import Callable
from typing import cast

from serving.doors import http2_frames as wire
from serving.doors.http2_frames import Broken, Fault, Flag, Kind, Setting
from serving.doors.http2_reader import Frame, FrameReader
from serving.doors.http2_request import CONNECTION_WINDOW_BYTES, STREAMS, WINDOW_BYTES, Http2Limits, Patience, Receiver
from serving.doors.http2_writer import Http2Writer
from serving.doors.http_messages import Headers
from serving.doors.server import Connection


class Http2Connection(Connection):
    """One client, and its requests by the number of their stream; methods named ``_on_*`` are for frames."""

    _transport: asyncio.Transport

    def __init__(
        self,
        accept: Callable[["Http2Connection", int, Headers], Receiver | None],
        limits: Http2Limits,
        all_: set[Connection],
    ) -> None:
        """Take what takes a request by its headers, or refuses it at once, the limits, and the set of connections."""
        self._accept = accept
        self._limits = limits
        self._all = all_
        self._loop = asyncio.get_running_loop()
        self._reader = FrameReader(limits.header_bytes)
        self.writer = Http2Writer(self._answered)
        """Of answers to requests that somebody waits for."""
        self._requests: dict[int, Receiver] = {}
        self._windows: dict[int, int] = {}
        """What may still come of each."""
        self._window = CONNECTION_WINDOW_BYTES
        self._touched: dict[int, Receiver] = {}
        """Those that something came of in this turn, and that are not whole."""
        self._last = 0
        """The highest stream that was begun."""
        self._patience = Patience()
        self._idle_until = self._loop.time() + limits.idle_seconds
        self._ends = math.inf
        """Loop time after which nobody is taken to be there."""
        self._hang_up = False
        self._handlers: dict[int, Callable[[Frame], None]] = {
            Kind.DATA: self._on_data,
            Kind.HEADERS: self._on_headers,
            Kind.RST_STREAM: self._on_reset,
            Kind.SETTINGS: self._on_settings,
            Kind.PING: self._on_ping,
            Kind.GOAWAY: self._on_goodbye,
            Kind.WINDOW_UPDATE: self._on_window,
        }

    # The transport's side.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client has come."""
        self._transport = self.writer.transport = cast("asyncio.Transport", transport)
        self._all.add(self)
        self.writer.write(self._limits.greeting())

    def connection_lost(self, exc: Exception | None) -> None:
        """The client has gone, and with it whoever waited for an answer."""
        self._all.discard(self)
        self._drop_requests()

    def data_received(self, data: bytes) -> None:
        """Read on; a client that breaks the protocol is told so, and hung up on."""
        if self._transport.is_closing():
            return
        try:
            for frame in self._reader.read(data):
                self._handlers.get(frame.kind, self._on_other)(frame)
        except Broken as error:
            self._break(error.fault)
            return
        if self._touched:
            for request in [*self._touched.values()]:
                request.account()
            self._touched.clear()
        if self._window < CONNECTION_WINDOW_BYTES - WINDOW_BYTES:
            self.writer.write(wire.more(0, CONNECTION_WINDOW_BYTES - self._window))
            self._window = CONNECTION_WINDOW_BYTES

    def eof_received(self) -> bool:
        """The client sends no more, and may wait for answers yet; it may have gone, too, which looks the same."""
        self._ends = self._loop.time() + self._limits.idle_seconds
        for number in [number for number, request in self._requests.items() if not request.whole]:
            self._forget(number)
        self.close_when_answered()
        return True

    def pause_writing(self) -> None:
        """The client does not read its answers: read no more requests."""
        self.writer.full = True
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        """The client reads again."""
        self.writer.full = False
        self.writer.send_waiting()
        if not self.writer.full and not self._transport.is_closing():
            self._transport.resume_reading()

    # The protocol's side.

    def _on_headers(self, frame: Frame) -> None:
        number, end = frame.number, bool(frame.flags & Flag.END_STREAM)
        if number > self._last and number % 2:
            self._last = number
            self._begin(number, cast("Headers", frame.headers), end=end)
            return
        self._check_begun(number)
        request = self._requests.get(number)
        if request is None:  # it was ended here before the client knew
            self._patience.idle()
        elif not end or request.whole:
            raise Broken(Fault.PROTOCOL_ERROR)
        else:
            self._end(number, request)

    def _begin(self, number: int, headers: Headers, *, end: bool) -> None:
        if self._hang_up or len(self._requests) >= STREAMS:
            self._patience.idle()
            self.writer.write(wire.reset(number, Fault.REFUSED_STREAM))  # a client knows that it may ask elsewhere
            return
        request = self._accept(self, number, headers)
        if request is None:
            return
        self._requests[number] = request
        self._windows[number] = WINDOW_BYTES
        self.writer.open(number)
        if end:
            request.ended()
        else:
            self._touched[number] = request

    def _end(self, number: int, request: Receiver) -> None:
        self._touched.pop(number, None)
        request.ended()

    def _on_data(self, frame: Frame) -> None:
        number, size = frame.number, len(frame.payload)
        self._check_begun(number)
        self._window -= size
        request = self._requests.get(number)
        left = self._windows.get(number, WINDOW_BYTES) - size
        if self._window < 0 or left < 0:
            raise Broken(Fault.FLOW_CONTROL_ERROR)
        if request is None:
            return
        self._windows[number] = left
        if request.whole:
            raise Broken(Fault.STREAM_CLOSED)
        content = frame.payload
        if frame.flags & Flag.PADDED:
            content = wire.content_of(Flag.PADDED, content)
        if content:
            self._patience.useful()
            request.receive(content)
        else:
            self._patience.idle()
        if number not in self._requests:
            return
        if frame.flags & Flag.END_STREAM:
            self._end(number, request)
        else:
            self._touched[number] = request

    def _on_reset(self, frame: Frame) -> None:
        wire.read_long(frame.payload)
        self._check_begun(frame.number)
        self._patience.idle()
        self._forget(frame.number)

    def _on_settings(self, frame: Frame) -> None:
        if frame.number:
            raise Broken(Fault.PROTOCOL_ERROR)
        self._patience.idle()
        if frame.flags & Flag.ACK:
            return
        theirs = dict(wire.read_settings(frame.payload))
        self.writer.write(wire.frame(Kind.SETTINGS, Flag.ACK, 0, b""))
        self.writer.settle(theirs.get(Setting.INITIAL_WINDOW_SIZE), theirs.get(Setting.MAX_FRAME_SIZE))

    def _on_ping(self, frame: Frame) -> None:
        if frame.number or len(frame.payload) != wire.PING_BYTES:
            raise Broken(Fault.PROTOCOL_ERROR)
        self._patience.idle()
        if not frame.flags & Flag.ACK:
            self.writer.write(wire.frame(Kind.PING, Flag.ACK, 0, frame.payload))

    def _on_goodbye(self, _: Frame) -> None:
        self._hang_up = True
        self._part_if_done()

    def _on_window(self, frame: Frame) -> None:
        size = wire.read_long(frame.payload)
        if frame.number:
            self._check_begun(frame.number)
        if not size:
            raise Broken(Fault.PROTOCOL_ERROR)
        if not self.writer.give(frame.number, size):
            self._patience.idle()

    def _on_other(self, frame: Frame) -> None:
        if frame.kind == Kind.PUSH_PROMISE:
            raise Broken(Fault.PROTOCOL_ERROR)
        self._patience.idle()

    def _check_begun(self, number: int) -> None:
        if not number or number > self._last:
            raise Broken(Fault.PROTOCOL_ERROR)

    def _break(self, fault: Fault) -> None:
        """Say why, and hang up."""
        self.writer.write(wire.goodbye(self._last, fault))
        self.writer.flush()
        self._transport.close()
        self._drop_requests()

    def _drop_requests(self) -> None:
        for number in [*self._requests]:
            self._forget(number)

    # The requests' side.

    def waits(self, number: int) -> bool:
        """True if somebody waits for the answer to a request."""
        return number in self._requests

    def take_more(self, number: int, size: int) -> None:
        """Let the client send so many bytes more of a request, for so many were taken."""
        if size and number in self._requests:
            self._windows[number] += size
            self.writer.write(wire.more(number, size))

    def refuse(self, number: int, head: bytes) -> None:
        """Give an answer that has no body."""
        self.writer.write(wire.headers_frames(number, head, end=True))
        self._answered(number)

    def _answered(self, number: int) -> None:
        """A request is answered; what still comes of it is not wanted."""
        self._patience.useful()
        request = self._requests.get(number)
        if request is None or not request.whole:
            self.writer.write(wire.reset(number, Fault.NO_ERROR))
        self._forget(number)

    def _forget(self, number: int) -> None:
        request = self._requests.pop(number, None)
        self._touched.pop(number, None)
        self._windows.pop(number, None)
        self.writer.close(number)
        if request is not None:
            request.over()
            self._idle_until = self._loop.time() + self._limits.idle_seconds
        if self._hang_up:
            self._part_if_done()

    # The server's side.

    def sweep(self, now: float) -> None:
        """Give up requests that are too slow, and a client that has none."""
        for request in [*self._requests.values()]:
            if now > request.deadline:
                request.time_out()
        if now > self._ends:
            self.abort()
        elif not self._requests and now > self._idle_until:
            self.close_when_answered()

    def close_when_answered(self) -> None:
        """Tell the client to ask elsewhere, answer what it has asked, then hang up."""
        if not self._hang_up:
            self._hang_up = True
            self.writer.write(wire.goodbye(self._last, Fault.NO_ERROR))
        self._part_if_done()

    def abort(self) -> None:
        """Hang up at once."""
        self._transport.abort()

    def _part_if_done(self) -> None:
        if self._hang_up and not self._requests:
            self.writer.flush()
            self._transport.close()
