"""A server of the benchmark: started in a folder of its own, known to be ready, stopped with all its processes."""

import socket
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import psutil

from benchmarks.serving.settings import server_environment

READY_SECONDS = 90.0
_STOP_SECONDS = 30.0
_POLL_SECONDS = 0.1


class CannotStart(Exception):
    """A server did not become ready; the message says why."""


class Command(NamedTuple):
    """How a server is started."""

    arguments: tuple[str, ...]
    variables: Mapping[str, str]
    folder: Path
    """Its working folder."""
    ports: tuple[int, ...]
    """It listens on all of these when it is ready."""


class Server:
    """A running server."""

    def __init__(self, name: str, command: Command, log: Path) -> None:
        """Start it; what it writes goes to a log file."""
        self.name = name
        self._command = command
        self._log = log
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                command.arguments,
                env=server_environment(command.variables),
                cwd=command.folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    def wait(self, works: Callable[[], bool]) -> None:
        """Return when all ports are open and a request works.

        Raises:
            CannotStart: it ended, or is not ready in time.
        """
        deadline = time.monotonic() + READY_SECONDS
        while not (all(map(_listens, self._command.ports)) and works()):
            if self._process.poll() is not None:
                raise CannotStart(f"{self.name} ended with {self._process.returncode}: {self._last_lines()}")
            if time.monotonic() > deadline:
                raise CannotStart(f"{self.name} was not ready within {READY_SECONDS:g} s: {self._last_lines()}")
            time.sleep(_POLL_SECONDS)

    def pids(self) -> tuple[int, ...]:
        """Return its processes."""
        return tuple(process.pid for process in self._family())

    def stop(self) -> None:
        """End it with all its children: politely, then for good."""
        family = self._family()
        if self._process.poll() is None:
            self._process.terminate()
        _, alive = psutil.wait_procs(family, timeout=_STOP_SECONDS)
        for process in alive:
            process.kill()
        psutil.wait_procs(alive, timeout=_STOP_SECONDS)
        self._process.wait(_STOP_SECONDS)

    def _family(self) -> list[psutil.Process]:
        try:
            parent = psutil.Process(self._process.pid)
            return [parent, *parent.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def _last_lines(self) -> str:
        return " | ".join(self._log.read_text(encoding="utf-8", errors="replace").splitlines()[-3:])


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
