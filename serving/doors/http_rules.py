"""Which requests HTTP/1.1 refuses by their head: too large, or such that another server might read them differently.

The parser refuses what is not HTTP: a length beside chunks, two lengths, bare line feeds, folded lines. What it leaves
is refused here, before a body is read.

Source: RFC 9112, sections 2.3, 3.2, 6.1 and 6.3 (request smuggling: section 11.2).
"""

from typing import NamedTuple
from urllib.parse import unquote_to_bytes

from registry.records.tenant import TENANT_HEADER

MAX_HEADERS = 100

_LOOKED_AT = frozenset({b"content-length", b"transfer-encoding", b"host", b"expect"})
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


def check_head(headers: list[tuple[bytes, bytes]], version: str, header_bytes: int, body_bytes: int) -> bool:
    """Check a request's version and headers, whose names are in lower case.

    Returns:
        Whether the client waits to be told to go on before it sends the body.

    Raises:
        Refused: the request is too large or ambiguous.
    """
    if version not in _VERSIONS:
        raise Refused(505, f"HTTP/{version} is not spoken here; use HTTP/1.1")
    size = hosts = 0
    waits = False
    for name, value in headers:
        size += len(name) + len(value)
        if name not in _LOOKED_AT:
            continue
        hosts += name == b"host"
        waits = _check_framing(name, value, version, body_bytes) or waits
    _check_counts(len(headers), hosts)
    if size > header_bytes:
        raise large_headers(header_bytes)
    return waits


def path_of(url: bytes) -> str:
    """Return the path of a request's URL: without query, percent-encoding undone."""
    if b"?" in url:
        url = url.partition(b"?")[0]
    if b"%" in url:
        url = unquote_to_bytes(url)
    return url.decode("utf-8", "replace")


def tenant_of(headers: list[tuple[bytes, bytes]]) -> str | None:
    """Return whose request it is, as the gateway says; None: nobody's but the operator's."""
    return next((value.decode("latin-1") for name, value in headers if name == _TENANT), None)


def _check_counts(headers: int, hosts: int) -> None:
    if headers > MAX_HEADERS:
        raise Refused(431, f"more than {MAX_HEADERS} headers")
    if hosts > 1:
        raise Refused(400, "the header host: given more than once")


def _check_framing(name: bytes, value: bytes, version: str, body_bytes: int) -> bool:
    """Check one header that is looked at; return whether it says that the client waits."""
    if name == b"content-length" and int(value) > body_bytes:
        raise too_large(body_bytes)
    if name == b"transfer-encoding" and (version == "1.0" or value.lower() != b"chunked"):
        raise Refused(501, f"the header transfer-encoding: expected chunked, in HTTP/1.1, got {value!r:.40}")
    return name == b"expect" and value.lower() == b"100-continue"
