"""A listening socket over connections of some kind: opens, sweeps out slow clients, drains when it is closed."""

import asyncio
import socket
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path

_SWEEP_SECONDS = 1.0
_POLL_SECONDS = 0.01
_BACKLOG = 2048


class Connection(asyncio.Protocol, ABC):
    """One client."""

    @abstractmethod
    def sweep(self, now: float) -> None:
        """Give up a client that is too slow, or does nothing, at a time of the loop."""

    @abstractmethod
    def close_when_answered(self) -> None:
        """Answer what was read or is being read, then hang up."""

    @abstractmethod
    def abort(self) -> None:
        """Hang up at once."""


class Server:
    """Listens on the running loop, leaves signals to the process that hosts it, and drains when it is closed."""

    def __init__(self, connect: Callable[[set[Connection]], Connection], drain_seconds: float) -> None:
        """Take what makes a connection, which is in the set while it is open, and how long closing waits."""
        self._make = connect
        self._drain_seconds = drain_seconds
        self._connections: set[Connection] = set()
        self._servers: list[asyncio.Server] = []
        self._file: Path | None = None
        self._sweeper: asyncio.Task[None] | None = None

    async def open(self, host: str, port: int, file: Path | None = None) -> int:
        """Listen, and return the port: the one asked for, or with 0 a free one.

        Args:
            host: the port's address.
            port: the port.
            file: a socket beside it, which only this process's user may reach; whoever has the port has the file, so
                one that was left there by a process that was killed is replaced.

        Raises:
            OSError: the port is taken, or there can be no socket at that path.
        """
        loop = asyncio.get_running_loop()
        listener = socket.create_server((host, port), backlog=_BACKLOG)
        self._servers.append(await loop.create_server(self._connect, sock=listener))
        if file is not None:
            self._file = file
            self._servers.append(await loop.create_unix_server(self._connect, sock=_socket_at(file)))
        self._sweeper = asyncio.create_task(self._sweep())
        bound: int = listener.getsockname()[1]
        return bound

    async def close(self) -> None:
        """Take no more connections and return when what is in flight is answered, or the time for it is over."""
        if self._sweeper is None:
            return
        if self._file is not None:
            self._file.unlink(missing_ok=True)
        for server in self._servers:
            server.close()
        deadline = asyncio.get_running_loop().time() + self._drain_seconds
        waiting = True
        while waiting and asyncio.get_running_loop().time() < deadline:
            for connection in list(self._connections):
                connection.close_when_answered()
            await asyncio.sleep(_POLL_SECONDS)  # once at least: one may be accepted that is not among them yet
            waiting = bool(self._connections)
        for connection in list(self._connections):
            connection.abort()
        self._sweeper.cancel()

    def _connect(self) -> Connection:
        return self._make(self._connections)

    async def _sweep(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(_SWEEP_SECONDS)
            now = loop.time()
            for connection in list(self._connections):
                connection.sweep(now)


def _socket_at(file: Path) -> socket.socket:
    """Return a socket that listens at a path, for this user alone."""
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    file.parent.chmod(0o700)  # before the socket is there: it has a mode of its own only a moment later
    file.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(file))
    file.chmod(0o600)
    listener.listen(_BACKLOG)
    return listener
