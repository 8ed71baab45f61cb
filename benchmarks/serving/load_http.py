"""HTTP requests in a closed loop over raw sockets; the answers are read by httptools' parser."""

import asyncio
import time
from typing import cast

import httptools

from benchmarks.serving.figures import Target
from benchmarks.serving.tally import Tally

HOST = "127.0.0.1"


def written(target: Target) -> bytes:
    """Return the bytes of a target's request."""
    body = target.body.read_bytes()
    headers = {"host": HOST, "content-length": str(len(body)), **target.headers}
    lines = [f"POST {target.path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items()), "", ""]
    return "\r\n".join(lines).encode() + body


class HttpClient(asyncio.Protocol):
    """One connection; ``on_message_complete`` is the parser's callback."""

    _transport: asyncio.Transport

    def __init__(self, request: bytes, tally: Tally) -> None:
        """Take what to send and where to count."""
        self._request = request
        self._tally = tally
        self._parser = httptools.HttpResponseParser(self)
        self._asked_ns = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask for the first time."""
        self._transport = cast("asyncio.Transport", transport)
        self._ask()

    def data_received(self, data: bytes) -> None:
        """Read on."""
        self._parser.feed_data(data)

    def connection_lost(self, exc: Exception | None) -> None:
        """Count a connection that was lost too early."""
        if not self._tally.over:
            self._tally.failed(f"the connection was lost: {exc or 'closed by the server'}")

    def on_message_complete(self) -> None:
        """Count an answer and ask again."""
        status = self._parser.get_status_code()
        if status == 200:
            self._tally.answered(time.perf_counter_ns() - self._asked_ns)
        else:
            self._tally.failed(f"status {status}")
        if self._tally.over:
            self._transport.close()
        else:
            self._ask()

    def _ask(self) -> None:
        self._asked_ns = time.perf_counter_ns()
        self._transport.write(self._request)


async def open_http(target: Target, connections: int, tally: Tally) -> list[asyncio.Transport]:
    """Open connections, each of which asks until the tally is over; return them."""
    loop = asyncio.get_running_loop()
    request = written(target)
    opened = []
    for number in range(connections):
        port = target.ports[number % len(target.ports)]
        transport, _ = await loop.create_connection(lambda: HttpClient(request, tally), HOST, port)
        opened.append(transport)
    return opened
