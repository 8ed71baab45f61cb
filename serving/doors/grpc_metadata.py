"""What a gRPC call says of itself in its metadata, and what goes back in it."""

from typing import NamedTuple

from registry.errors import BurnishError, DeadlineExceeded, InputError, ModelNotFound, QueueFull, TransientError
from registry.records.tenant import TENANT_HEADER
from serving.doors.grpc_wire import Code, Metadata
from serving.doors.http_messages import Headers
from serving.doors.requests import checked_id, new_request_id
from serving.engine.trace_context import Parent, read_parent

_REQUEST_ID, _REQUEST_ID_KEY = "x-request-id", b"x-request-id"
_UNIT_ID, _UNIT_ID_KEY = "x-burnish-unit", b"x-burnish-unit"
_TRACEPARENT, _TRACEPARENT_KEY = "traceparent", b"traceparent"
_TENANT_KEY = TENANT_HEADER.encode()
_ATTEMPT_KEY = b"x-envoy-attempt-count"
_PUSHBACK = "grpc-retry-pushback-ms"
"""Trailing metadata: when a client with a retry policy may try again (gRFC A6)."""

_CODES: tuple[tuple[type[BurnishError], Code], ...] = (
    (InputError, Code.INVALID_ARGUMENT),
    (ModelNotFound, Code.NOT_FOUND),
    (QueueFull, Code.RESOURCE_EXHAUSTED),
    (DeadlineExceeded, Code.DEADLINE_EXCEEDED),
    (TransientError, Code.UNAVAILABLE),
)
"""The first that fits."""


class CallMetadata(NamedTuple):
    """What a call says of itself."""

    request_id: str
    """The client's, else a new one."""
    tenant: str | None
    """Whose it is, as the gateway says; None: it comes from the operator, past the gateway."""
    unit_id: str
    given: bool
    """The client gave the request id, and so gets it back in every case."""
    retried: bool
    """The gateway has sent it to another worker before, which did not answer."""
    parent: Parent | None
    """The trace that it belongs to; it is given back."""
    size: int
    """Bytes of its message."""

    def check(self) -> None:
        """Check the ids.

        Raises:
            InputError: one is none.
        """
        if self.given:
            checked_id(_REQUEST_ID, self.request_id)
        if self.unit_id is not self.request_id:
            checked_id(_UNIT_ID, self.unit_id)

    def trailing(self, *, with_id: bool) -> Metadata:
        """Return what goes back with the status.

        The request id does with every refusal, and with an answer if the client gave it: answers of models hold it
        anyway.
        """
        found = ((_REQUEST_ID, self.request_id),) if with_id else ()
        return found if self.parent is None else (*found, (_TRACEPARENT, self.parent.traceparent))


def read_metadata(headers: Headers, size: int) -> CallMetadata:
    """Read what concerns the door; the ids are not checked yet, so that a refusal can name them."""
    found = dict(headers)
    given, tenant, unit = found.get(_REQUEST_ID_KEY), found.get(_TENANT_KEY), found.get(_UNIT_ID_KEY)
    request_id = new_request_id() if given is None else given.decode("latin-1")
    parent = None
    if _TRACEPARENT_KEY in found:
        states = b",".join([value for name, value in headers if name == b"tracestate"])
        parent = read_parent(found[_TRACEPARENT_KEY].decode("latin-1"), states.decode("latin-1"))
    return CallMetadata(
        request_id,
        None if tenant is None else tenant.decode("latin-1"),
        request_id if unit is None else unit.decode("latin-1"),
        given is not None,
        found.get(_ATTEMPT_KEY, b"1") != b"1",
        parent,
        size,
    )


def followed(metadata: Metadata, traceparent: str) -> Metadata:
    """Return metadata with the context of the span that was made for the call."""
    return (*(one for one in metadata if one[0] != _TRACEPARENT), (_TRACEPARENT, traceparent))


def code_of(error: BurnishError) -> Code:
    """Return the code that clients know an error of ours by."""
    return next((code for kind, code in _CODES if isinstance(error, kind)), Code.INTERNAL)


def pushback(error: BurnishError) -> Metadata:
    """Return what tells a client when to try again, if that makes sense."""
    if not isinstance(error, TransientError) or not error.retry_after_s:
        return ()
    return ((_PUSHBACK, str(1000 * error.retry_after_s)),)
