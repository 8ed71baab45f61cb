"""What the REST door and its HTTP tell each other: requests, answers, and how the head of an answer is written."""

from collections.abc import Callable, Coroutine, Sequence
from http import HTTPStatus
from typing import Any, NamedTuple

Headers = list[tuple[bytes, bytes]]

_STATUS_LINES = {status.value: b"HTTP/1.1 %d %s\r\n" % (status.value, status.phrase.encode()) for status in HTTPStatus}


class Request(NamedTuple):
    """One request, read whole."""

    method: str
    path: str
    """Without query, percent-encoding undone."""
    headers: Headers
    """Names in lower case, in the order of arrival."""
    body: bytes


class Reply(NamedTuple):
    """One answer; the length and what concerns the connection are added when it is written."""

    status: int
    body: bytes
    headers: Headers
    lines: bytes = b""
    """More headers, written out as they go over the wire: for what is the same in many answers."""


Eventual = Reply | Coroutine[Any, Any, Reply]
"""At once or later; a coroutine is cancelled when the client hangs up."""

Application = Callable[[Sequence[Request]], Sequence[Eventual]]
"""Answers requests of several clients, in their order; it raises nothing."""

Refuse = Callable[[int, str], Reply]
"""Makes the body of an answer that HTTP itself gives: status and message."""


def head_of(reply: Reply, *, last: bool) -> bytes:
    """Write all of an answer that stands before its body; the last one of a connection says so."""
    written = [b"%b: %b\r\n" % header for header in reply.headers]
    ending = b"connection: close\r\n\r\n" if last else b"\r\n"
    status, length = _STATUS_LINES[reply.status], len(reply.body)
    return b"%bcontent-length: %d\r\n%b%b%b" % (status, length, reply.lines, b"".join(written), ending)
