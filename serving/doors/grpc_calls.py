"""How a gRPC call begins and ends: its message and metadata are read, and an error of ours becomes its status."""

from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple, TypeAlias

import grpc
from google.protobuf.message import DecodeError

from registry.errors import BurnishError, DeadlineExceeded, InputError, ModelNotFound, QueueFull, TransientError
from serving.doors.requests import checked_id, new_request_id
from serving.engine.trace_context import Parent, read_parent

Context: TypeAlias = Any  # grpc.aio.ServicerContext: the library ships no types

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
    unit_id: str
    given: bool
    """The client gave the request id, and so gets it back in every case."""
    retried: bool
    """The gateway has sent it to another worker before, which did not answer."""
    parent: Parent | None
    """The trace that it belongs to; it is given back."""

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


def read_metadata(context: Context) -> CallMetadata:
    """Read what concerns the door; the ids are not checked yet, so that a refusal can name them."""
    request_id = unit_id = traceparent = None
    states, retried = [], False
    for name, value in context.invocation_metadata() or ():
        if name == REQUEST_ID:
            request_id = str(value)
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
    return CallMetadata(known_id, known_id if unit_id is None else unit_id, request_id is not None, retried, parent)


def reader(message_type: Any) -> Callable[[bytes], Any]:  # noqa: ANN401
    """Return what reads a message; for bytes that are none it returns the refusal, which gRPC would give as UNKNOWN."""

    def parse(content: bytes) -> Any:  # noqa: ANN401
        try:
            return message_type.FromString(content)
        except DecodeError as error:
            return InputError(f"the message: {error}")

    return parse


def read(request: Any) -> Any:  # noqa: ANN401
    """Return a message, as ``reader`` gave it.

    Raises:
        InputError: it is none.
    """
    if isinstance(request, InputError):
        raise request
    return request


def code_of(error: BurnishError) -> grpc.StatusCode:
    """Return the status that clients know an error of ours by."""
    return next((code for kind, code in _CODES if isinstance(error, kind)), grpc.StatusCode.INTERNAL)


async def refuse(context: Context, error: BurnishError, request_id: str) -> None:
    """End a call with an error's status."""
    trailing = [(REQUEST_ID, request_id)]
    if isinstance(error, TransientError):
        trailing.append((_PUSHBACK, str(1000 * error.retry_after_s)))
    await context.abort(code_of(error), str(error), tuple(trailing))
