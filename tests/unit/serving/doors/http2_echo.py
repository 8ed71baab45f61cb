"""A server over HTTP/2 that answers with what it was sent."""

import asyncio
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from serving.doors.hpack import block
from serving.doors.http2 import Http2Connection
from serving.doors.http2_request import Http2Limits
from serving.doors.http_messages import Headers
from serving.doors.server import Connection, Server

HEAD = block([(b":status", b"200")])
TRAILERS = block([(b"end", b"1")])


class Echo:
    """Answers with what it was sent, once it may; ``/large`` is two megabytes, ``/none`` a refusal."""

    def __init__(self, read_seconds: float = 60) -> None:
        """Take how long a request may take to come."""
        self.read_seconds = read_seconds
        self.may = asyncio.Event()
        self.may.set()
        self.open: list[Request] = []

    def accept(self, connection: Http2Connection, number: int, headers: Headers) -> "Request | None":
        path = dict(headers)[b":path"]
        if path == b"/none":
            connection.refuse(number, block([(b":status", b"404")]))
            return None
        request = Request(self, connection, number, path)
        self.open.append(request)
        return request


class Request:
    """One request."""

    def __init__(self, echo: Echo, connection: Http2Connection, number: int, path: bytes) -> None:
        self.deadline = asyncio.get_running_loop().time() + echo.read_seconds
        self.whole = False
        self.body = b""
        self.is_over = 0
        self._echo, self._connection, self._number, self._path = echo, connection, number, path
        self._untaken = 0

    def receive(self, data: bytes) -> None:
        self.body += data
        self._untaken += len(data)

    def account(self) -> None:
        self._connection.take_more(self._number, self._untaken)
        self._untaken = 0

    def ended(self) -> None:
        self.whole, self.deadline = True, math.inf
        self._work = asyncio.create_task(self._answer())

    async def _answer(self) -> None:
        await self._echo.may.wait()
        body = b"x" * 2_000_000 if self._path == b"/large" else self.body
        writer = self._connection.writer
        writer.begin(self._number, HEAD)
        writer.send(self._number, body)
        writer.end(self._number, TRAILERS)

    def time_out(self) -> None:
        self._connection.refuse(self._number, block([(b":status", b"408")]))

    def over(self) -> None:
        self.is_over += 1
        self._echo.open.remove(self)
        if self.whole:
            self._work.cancel()


@asynccontextmanager
async def serving(echo: Echo, limits: Http2Limits | None = None) -> AsyncIterator[tuple[Server, int]]:
    def connect(all_: set[Connection]) -> Http2Connection:
        return Http2Connection(echo.accept, limits or Http2Limits(), all_)

    server = Server(connect, drain_seconds=5)
    yield server, await server.open("127.0.0.1", 0)
    await server.close()
