"""How a gRPC call begins and ends: its message and metadata are read, and an error of ours becomes its status."""

from collections.abc import Awaitable, Callable, Iterable
from typing import Any, NamedTuple, TypeAlias

import grpc
from google.protobuf.message import DecodeError

from registry.errors import BurnishError, DeadlineExceeded, InputError, ModelNotFound, QueueFull, TransientError
from registry.records.tenant import TENANT_HEADER
from serving.doors.requests import checked_id, new_request_id
from serving.engine.trace_context import Parent, read_parent

Context: TypeAlias = Any  # grpc.aio.ServicerContext: the library ships no types

Metadata: TypeAlias = Iterable[tuple[str, str]]

REQUEST_ID = "x-request-id"
_UNIT_ID = "x-burnish-unit"
_PUSHBACK = "grpc-retry-pushback-ms"
"""Trailing metadata: when a client with a retry policy may try again (gRFC A6)."""

_CODES: tuple[tuple[type[BurnishError], grpc.StatusCode], ...] = (
    (InputError, grpc.StatusCode.INVALID_ARGUMENT),
    (ModelNotFound, grpc.StatusCode.NOT_FOUND),
    (QueueFull, grpc.StatusCode.RESOURCE_EXHAUSTED),
    (DeadlineExceeded, grpc.StatusCode.DEADLINE_EXCEEDED),
    (TransientError, grpc.StatusCode.UNAVAILABLE),
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
            checked_id(REQUEST_ID, self.request_id)
        if self.unit_id is not self.request_id:
            checked_id(_UNIT_ID, self.unit_id)


Call = Callable[[Any, CallMetadata, Context], Awaitable[Any]]


def read_metadata(context: Context, size: int) -> CallMetadata:
    """Read what concerns the door; the ids are not checked yet, so that a refusal can name them."""
    request_id = tenant = unit_id = traceparent = None
    states, retried = [], False
    for name, value in context.invocation_metadata() or ():
        if name == REQUEST_ID:
            request_id = str(value)
        elif name == TENANT_HEADER:
            tenant = str(value)
        elif name == _UNIT_ID:
            unit_id = str(value)
        elif name == "traceparent":
            traceparent = str(value)
        elif name == "tracestate":
            states.append(str(value))
        elif name == "x-envoy-attempt-count":
            retried = value != "1"
    parent = None if traceparent is None else read_parent(traceparent, ",".join(states))
    known_id = new_request_id() if request_id is None else request_id
    unit_id = known_id if unit_id is None else unit_id
    return CallMetadata(known_id, tenant, unit_id, request_id is not None, retried, parent, size)


class Received(NamedTuple):
    """What came of a message."""

    message: Any
    """For bytes that are none the refusal, which gRPC would give as UNKNOWN."""
    size: int


def reader(message_type: Any) -> Callable[[bytes], Received]:  # noqa: ANN401
    """Return what reads messages of a type."""

    def parse(content: bytes) -> Received:
        try:
            return Received(message_type.FromString(content), len(content))
        except DecodeError as error:
            return Received(InputError(f"the message: {error}"), len(content))

    return parse


def read(received: Received) -> Any:  # noqa: ANN401
    """Return a message.

    Raises:
        InputError: it is none.
    """
    if isinstance(received.message, InputError):
        raise received.message
    return received.message


def code_of(error: BurnishError) -> grpc.StatusCode:
    """Return the status that clients know an error of ours by."""
    return next((code for kind, code in _CODES if isinstance(error, kind)), grpc.StatusCode.INTERNAL)


async def refuse(context: Context, error: BurnishError, trailing: Metadata) -> None:
    """End a call with an error's status, and with what was set to go back with its end."""
    trailing = [*trailing, *(context.trailing_metadata() or ())]
    if isinstance(error, TransientError):
        trailing.append((_PUSHBACK, str(1000 * error.retry_after_s)))
    await context.abort(code_of(error), str(error), tuple(trailing))
