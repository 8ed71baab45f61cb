"""A server that answers with what it was asked, and a client that sends any bytes."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from serving.doors.http import http_server
from serving.doors.http_messages import Eventual, Reply, Request
from serving.doors.http_rules import HttpLimits
from serving.doors.server import Server
from serving.engine.shared_bound import SharedBound
from tests.unit.serving.engine.doubles import WAIT_SECONDS

LIMITS = HttpLimits(body_bytes=1000, header_bytes=2000)
HASTY = HttpLimits(body_bytes=1000, header_bytes=2000, read_seconds=0.3, idle_seconds=0.3)
SLOW = HttpLimits(body_bytes=1000)


class Echo:
    """Answers with method, path and body; ``/later`` waits for ``go``, ``/large`` is large, ``/defect`` fails later."""

    def __init__(self) -> None:
        self.seen: list[Request] = []
        self.go = asyncio.Event()
        self.cancelled = 0

    def __call__(self, requests: Sequence[Request]) -> list[Eventual]:
        return [self._answer(request) for request in requests]

    def _answer(self, request: Request) -> Eventual:
        self.seen.append(request)
        if request.path == "/large":
            return Reply(200, b"x" * 2_000_000, [])
        reply = Reply(200, f"{request.method} {request.path} ".encode() + request.body, [(b"x-extra", b"1")])
        if request.path == "/defect":
            return self._fail()
        return self._later(reply) if request.path == "/later" else reply

    async def _fail(self) -> Reply:
        raise LookupError("nobody foresaw it")

    async def _later(self, reply: Reply) -> Reply:
        try:
            await asyncio.wait_for(self.go.wait(), WAIT_SECONDS)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        return reply


def refuse(status: int, message: str) -> Reply:
    return Reply(status, message.encode(), [])


@asynccontextmanager
async def serving(
    echo: Echo, limits: HttpLimits = SLOW, bodies: SharedBound | None = None
) -> AsyncIterator[tuple[Server, int]]:
    server = http_server(echo, refuse, limits, drain_seconds=5, bodies=bodies or SharedBound(2**30))
    port = await server.open("127.0.0.1", 0)
    yield server, port
    await server.close()


async def connect(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection("127.0.0.1", port)


async def answers(port: int, *parts: bytes, pause: float = 0.01) -> bytes:
    """Send parts one after the other and return all that comes until the server hangs up."""
    reader, writer = await connect(port)
    for part in parts:
        writer.write(part)
        await asyncio.sleep(pause)
    found = await asyncio.wait_for(reader.read(), WAIT_SECONDS)
    writer.close()
    return found


CLOSE = b"connection: close\r\n"
