"""Which requests HTTP/1.1 refuses by their head: too large, or such that another server might read them differently.

The parser refuses what is not HTTP: a length beside chunks, two lengths, bare line feeds, folded lines. What it leaves
is refused here, before a body is read.

Source: RFC 9112, sections 2.3, 3.2, 6.1 and 6.3 (request smuggling: section 11.2).
"""

from typing import NamedTuple
from urllib.parse import unquote_to_bytes

import httptools

from registry.records.tenant import TENANT_HEADER

MAX_HEADERS = 100

_LOOKED_AT = frozenset({b"content-length", b"transfer-encoding", b"host", b"expect"})
_OF_CONNECTION = frozenset({b"connection", b"upgrade"})
_TENANT = TENANT_HEADER.encode()
_VERSIONS = ("1.1", "1.0")


class HttpLimits(NamedTuple):
    """What one connection may cost."""

    body_bytes: int
    header_bytes: int = 32 * 1024
    read_seconds: float = 30.0
    """From a request's first byte to its last."""
    idle_seconds: float = 75.0
    """Between two requests."""


class Refused(Exception):
    """A request that is answered with a status, a message, and the end of the connection."""

    def __init__(self, status: int, message: str) -> None:
        """Take what is answered."""
        super().__init__(message)
        self.status = status


def too_large(body_bytes: int) -> Refused:
    """Return the refusal of a body that is over its limit."""
    return Refused(413, f"the body is larger than {body_bytes} bytes")


def large_headers(header_bytes: int) -> Refused:
    """Return the refusal of headers that are over their limit."""
    return Refused(431, f"the headers are larger than {header_bytes} bytes")


def refusal_of(error: httptools.HttpParserError) -> tuple[int, str]:
    """Return status and message for what the parser cannot read, or was told not to read on."""
    if not isinstance(error, httptools.HttpParserCallbackError):
        return 400, f"this is not an HTTP/1.1 request: {error}"
    if not isinstance(error.__context__, Refused):
        raise error
    return error.__context__.status, str(error.__context__)


def head_again(method: bytes, url: bytes, headers: list[tuple[bytes, bytes]]) -> bytes:
    """Write a request's head again, as the last one of its connection, without the protocol that it would rather speak.

    A server may ignore that wish: RFC 9110, section 7.8. CONNECT is nothing else; in lower case the parser refuses it.
    """
    method = b"connect" if method == b"CONNECT" else method
    kept = [b"%b: %b\r\n" % header for header in headers if header[0] not in _OF_CONNECTION]
    return b"%b %b HTTP/1.1\r\n%bconnection: close\r\n\r\n" % (method, url, b"".join(kept))


def check_head(url: bytes, headers: list[tuple[bytes, bytes]], version: str, limits: HttpLimits) -> bool:
    """Check a request's first line and headers, whose names are in lower case.

    Returns:
        Whether the client waits to be told to go on before it sends the body.

    Raises:
        Refused: the request is too large or ambiguous.
    """
    if version not in _VERSIONS:
        raise Refused(505, f"HTTP/{version} is not spoken here; use HTTP/1.1")
    size, hosts, waits = len(url), 0, False
    for name, value in headers:
        size += len(name) + len(value)
        if name not in _LOOKED_AT:
            continue
        hosts += name == b"host"
        waits = _check_framing(name, value, version, limits.body_bytes) or waits
    _check_counts(len(headers), hosts, version)
    if size > limits.header_bytes:
        raise large_headers(limits.header_bytes)
    return waits


def path_of(url: bytes) -> str:
    """Return the path of a request's URL: without query, percent-encoding undone."""
    if url[:1] != b"/" and url != b"*":
        url = b"/" + url.partition(b"://")[2].partition(b"/")[2]
    if b"?" in url:
        url = url.partition(b"?")[0]
    if b"%" in url:
        url = unquote_to_bytes(url)
    return url.decode("utf-8", "replace")


def tenant_of(headers: list[tuple[bytes, bytes]]) -> str | None:
    """Return whose request it is, as the gateway says; None: nobody's but the operator's."""
    return next((value.decode("latin-1") for name, value in headers if name == _TENANT), None)


def _check_counts(headers: int, hosts: int, version: str) -> None:
    if headers > MAX_HEADERS:
        raise Refused(431, f"more than {MAX_HEADERS} headers")
    if hosts > 1 or (not hosts and version == "1.1"):
        raise Refused(400, f"the header host: expected once, got {hosts}")


def _check_framing(name: bytes, value: bytes, version: str, body_bytes: int) -> bool:
    """Check one header that is looked at; return whether it says that the client waits."""
    if name == b"content-length" and int(value) > body_bytes:
        raise too_large(body_bytes)
    if name == b"transfer-encoding" and (version == "1.0" or value.lower() != b"chunked"):
        raise Refused(501, f"the header transfer-encoding: expected chunked, in HTTP/1.1, got {value!r:.40}")
    return name == b"expect" and value.lower() == b"100-continue"
