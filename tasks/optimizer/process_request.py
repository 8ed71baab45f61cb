"""What a process of a job's own is asked to do, and what is told of it."""

import json
import socket
from typing import Any

from registry.records.base import Record

MESSAGE_BYTES = 1 << 20
"""Longest message; each one is a datagram."""


class ProcessRequest(Record):
    """One job: a module to run as a program, in a confined process of its own."""

    module: str
    arguments: tuple[str, ...]
    workspace: str
    """Its working folder, the only one that it may write to."""
    log: str
    """Receives what it and its libraries print."""
    environment: dict[str, str]
    """All of it; ``PYTHONPATH`` holds here too."""
    imports: tuple[str, ...] = ()
    """Modules of Burnish's own that the job will need."""
    timeout_s: float
    memory_mib: int
    threads: int
    confined: bool = True
    quiet: bool = False
    """The server imports nothing while it runs."""


class Started(Record):
    """The process runs."""

    pid: int


class Ended(Record):
    """The process is gone, with all that it started."""

    ending: str
    """In words that follow "the child process"."""


class Importing(Record):
    """The server begins to import a module, or has done so."""

    module: str
    done: bool = False


_KINDS: dict[str, type[Record]] = {kind.__name__: kind for kind in (ProcessRequest, Started, Ended, Importing)}


def encode(message: Record) -> bytes:
    """Return a message as one datagram."""
    return json.dumps([type(message).__name__, message.model_dump(mode="json")]).encode()


def decode(datagram: bytes) -> Any:  # noqa: ANN401  the caller looks at what it is
    """Return the message in a datagram."""
    kind, values = json.loads(datagram)
    return _KINDS[kind].model_validate(values)


def receive(connection: socket.socket) -> Any:  # noqa: ANN401
    """Wait for the next message; None at the end of the connection.

    Raises:
        TimeoutError: the connection's time is over.
    """
    try:
        datagram = connection.recv(MESSAGE_BYTES)
    except ConnectionError:
        return None
    return decode(datagram) if datagram else None
