"""A listening socket over an application: opens, sweeps out clients that are too slow, drains when it is closed."""

import asyncio
import socket

from serving.doors.http import Connection
from serving.doors.http_messages import Application, Refuse
from serving.doors.http_rules import HttpLimits
from serving.doors.round import Round
from serving.engine.shared_bound import SharedBound

_SWEEP_SECONDS = 1.0
_POLL_SECONDS = 0.01


class HttpServer:
    """Listens on the running loop, leaves signals to the process that hosts it, and drains when it is closed."""

    def __init__(
        self,
        application: Application,
        refuse: Refuse,
        limits: HttpLimits,
        drain_seconds: float,
        bodies: SharedBound,
    ) -> None:
        """Take the application, the form of refusals, the limits, how long closing waits, and what bodies may hold."""
        self._round = Round(application)
        self._refuse = refuse
        self._limits = limits
        self._drain_seconds = drain_seconds
        self._bodies = bodies
        self._connections: set[Connection] = set()
        self._server: asyncio.Server | None = None
        self._sweeper: asyncio.Task[None] | None = None

    async def open(self, host: str, port: int) -> int:
        """Listen, and return the port: the one asked for, or with 0 a free one.

        Raises:
            OSError: the port is taken.
        """
        listener = socket.create_server((host, port), backlog=2048)
        self._server = await asyncio.get_running_loop().create_server(self._connect, sock=listener)
        self._sweeper = asyncio.create_task(self._sweep())
        bound: int = listener.getsockname()[1]
        return bound

    async def close(self) -> None:
        """Take no more connections and return when what is in flight is answered, or the time for it is over."""
        if self._server is None or self._sweeper is None:
            return
        self._server.close()
        for connection in list(self._connections):
            connection.close_when_answered()
        deadline = asyncio.get_running_loop().time() + self._drain_seconds
        while self._connections and asyncio.get_running_loop().time() < deadline:
            await asyncio.sleep(_POLL_SECONDS)
        for connection in list(self._connections):
            connection.abort()
        self._sweeper.cancel()

    def _connect(self) -> Connection:
        return Connection(self._round.ask, self._refuse, self._limits, self._connections, self._bodies)

    async def _sweep(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(_SWEEP_SECONDS)
            now = loop.time()
            for connection in list(self._connections):
                if now > connection.deadline:
                    connection.time_out()
