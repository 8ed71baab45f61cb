"""What the REST door reads of a request's headers."""

from typing import NamedTuple

from registry.errors import InputError
from registry.records.tenant import TENANT_HEADER
from serving.doors.http_messages import Headers
from serving.doors.requests import checked_id, is_id, new_request_id
from serving.engine.trace_context import Parent, read_parent

JSON_LENGTH = b"inference-header-content-length"
"""Of a request or answer with binary tensors: how many bytes of the body are JSON."""

_TENANT = TENANT_HEADER.encode()
_ATTEMPT = b"x-envoy-attempt-count"
TRACEPARENT = b"traceparent"
_READ = frozenset(
    {
        b"x-request-id",
        b"x-burnish-unit",
        JSON_LENGTH,
        b"content-encoding",
        b"accept-encoding",
        _TENANT,
        _ATTEMPT,
        TRACEPARENT,
    }
)
_LENGTH_DIGITS = 12


class RequestHeaders(NamedTuple):
    """What a request says of itself."""

    request_id: str
    tenant: str | None
    """Whose it is, as the gateway says; None: it comes from the operator, past the gateway."""
    unit_id: str
    json_length: int | None
    coding: str | None
    """Of the body; None: as it is."""
    accepted: str | None
    """Codings in which the client takes answers, as it says."""
    retried: bool
    """The gateway has sent it to another worker before, which did not answer."""
    parent: Parent | None
    """The trace that it belongs to; it is given back."""

    @property
    def id_header(self) -> tuple[bytes, bytes]:
        """The header that every answer has."""
        return b"x-request-id", self.request_id.encode()


def unread(headers: Headers) -> RequestHeaders:
    """Return what a request is answered with whose headers cannot be read: its id, if that is one, else a new one."""
    request_id = new_request_id()
    for name, value in headers:
        if name == b"x-request-id" and is_id(value.decode("latin-1")):
            request_id = value.decode("latin-1")
    return RequestHeaders(request_id, None, request_id, None, None, None, False, None)


def read_headers(headers: Headers) -> RequestHeaders:
    """Read what concerns the door; a request without an id gets one.

    Raises:
        InputError: an id or a length is none.
    """
    request_id = unit_id = json_length = accepted = coding = None
    passed: dict[bytes, bytes] = {}
    for name, value in headers:
        if name not in _READ:
            continue
        if name == b"x-request-id":
            request_id = checked_id("x-request-id", value.decode("latin-1"))
        elif name == b"x-burnish-unit":
            unit_id = checked_id("x-burnish-unit", value.decode("latin-1"))
        elif name == JSON_LENGTH:
            json_length = _length(value)
        elif name == b"content-encoding":
            coding = _coding(coding, value)
        elif name == b"accept-encoding":
            accepted = value.decode("latin-1")
        else:
            passed[name] = value
    request_id = request_id or new_request_id()
    tenant, retried, parent = _passed(passed) if passed else (None, False, None)
    return RequestHeaders(request_id, tenant, unit_id or request_id, json_length, coding, accepted, retried, parent)


def _passed(headers: dict[bytes, bytes]) -> tuple[str | None, bool, Parent | None]:
    """Read what was said of a request on its way here: whose it is, if it is a retry, and its trace."""
    tenant, traceparent = headers.get(_TENANT), headers.get(TRACEPARENT)
    return (
        None if tenant is None else tenant.decode("latin-1"),
        headers.get(_ATTEMPT, b"1") != b"1",
        None if traceparent is None else read_parent(traceparent.decode("latin-1")),
    )


def _length(value: bytes) -> int:
    if not value.isdigit() or len(value) > _LENGTH_DIGITS:
        raise InputError(f"the header {JSON_LENGTH.decode()}: expected a number of bytes")
    return int(value)


def _coding(before: str | None, value: bytes) -> str | None:
    coding = value.decode("latin-1").strip().lower()
    if coding in ("", "identity"):
        return before
    return coding if before is None else f"{before}, {coding}"
