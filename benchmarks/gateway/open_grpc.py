"""gRPC calls whose moments are given, frame by frame: a client that takes little of the machine that it measures.

gRPC's own client for asyncio takes as long for a call as the gateway does.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import cast

from benchmarks.serving.figures import Target
from benchmarks.serving.load_http import HOST
from serving.doors.grpc_wire import framed
from serving.doors.hpack import block
from serving.doors.http2_frames import (
    FIRST_WINDOW,
    LARGEST_WINDOW,
    PREFACE,
    Flag,
    Kind,
    Setting,
    frame,
    headers_frames,
    more,
    read_long,
    settings,
)
from serving.doors.http2_reader import Frame, FrameReader

_CONNECTIONS = 4
_AT_ONCE = 64
"""Calls on one connection; those beyond wait, and their time counts."""
_HEADER_BYTES = 64 * 1024

Answered = Callable[[int, str], None]
"""Told when a call was due, and how it ended: 200, or gRPC's number of a failure."""


class _Connection(asyncio.Protocol):
    """One connection; calls are numbered by streams."""

    _transport: asyncio.Transport

    def __init__(self, target: Target, answered: Answered, due: "deque[int]") -> None:
        self._answered, self._due = answered, due
        head = {":method": "POST", ":scheme": "http", ":path": target.path, ":authority": HOST, "te": "trailers"}
        named = {**head, "content-type": "application/grpc", **target.headers}
        self._head = block([(name.encode(), value.encode()) for name, value in named.items()])
        self._message = framed(target.body.read_bytes())
        self._reader = FrameReader(_HEADER_BYTES)
        list(self._reader.read(PREFACE))  # a server sends none
        self._next = 1
        self._window = FIRST_WINDOW
        self._asked: dict[int, int] = {}

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        ours = settings({Setting.ENABLE_PUSH: 0, Setting.INITIAL_WINDOW_SIZE: LARGEST_WINDOW})
        transport_window = LARGEST_WINDOW - FIRST_WINDOW
        self._transport.write(PREFACE + ours + more(0, transport_window))

    def connection_lost(self, _: Exception | None) -> None:
        for due_ns in self._asked.values():
            self._answered(due_ns, "lost")

    @property
    def free(self) -> bool:
        """True if another call may be made."""
        return len(self._asked) < _AT_ONCE and self._window >= len(self._message)

    def ask(self, due_ns: int) -> None:
        number, self._next = self._next, self._next + 2
        self._asked[number] = due_ns
        self._window -= len(self._message)
        data = frame(Kind.DATA, Flag.END_STREAM, number, self._message)
        self._transport.write(headers_frames(number, self._head, end=False) + data)

    def data_received(self, data: bytes) -> None:
        for one in self._reader.read(data):
            if one.kind == Kind.HEADERS and one.flags & Flag.END_STREAM:
                self._end(one.number, dict(one.headers or ()).get(b"grpc-status", b"none").decode())
            elif one.kind == Kind.RST_STREAM and one.number in self._asked:
                self._end(one.number, "reset")
            elif one.number == 0:
                self._settle(one)

    def _end(self, number: int, status: str) -> None:
        self._answered(self._asked.pop(number), "200" if status == "0" else status)
        while self._due and self.free:
            self.ask(self._due.popleft())

    def _settle(self, one: Frame) -> None:
        if one.kind == Kind.WINDOW_UPDATE:
            self._window += read_long(one.payload)
        elif one.kind in (Kind.SETTINGS, Kind.PING) and not one.flags & Flag.ACK:
            payload = one.payload if one.kind == Kind.PING else b""
            self._transport.write(frame(one.kind, Flag.ACK, 0, payload))

    def close(self) -> None:
        self._asked.clear()
        self._transport.abort()


async def open_grpc(target: Target, answered: Answered) -> tuple[Callable[[int], None], Callable[[], None]]:
    """Return what makes a call that is due, and what ends all connections."""
    due: deque[int] = deque()
    loop = asyncio.get_running_loop()
    everyone: deque[_Connection] = deque()
    for _ in range(_CONNECTIONS):
        _, protocol = await loop.create_connection(lambda: _Connection(target, answered, due), HOST, target.ports[0])
        everyone.append(protocol)

    def ask(due_ns: int) -> None:
        for _ in range(_CONNECTIONS):
            everyone.rotate()
            if everyone[0].free:
                everyone[0].ask(due_ns)
                return
        due.append(due_ns)

    def close() -> None:
        for one in everyone:
            one.close()

    return ask, close
