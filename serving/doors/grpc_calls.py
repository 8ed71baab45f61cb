"""How a gRPC call begins and ends: its message is read, and an error of ours becomes its status."""

from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

import grpc
from google.protobuf.message import DecodeError

from registry.errors import BurnishError, DeadlineExceeded, InputError, ModelNotFound, QueueFull, TransientError

Context: TypeAlias = Any  # grpc.aio.ServicerContext: the library ships no types
Call = Callable[[Any, Context], Awaitable[Any]]

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


def guarded(call: Call) -> Call:
    """Answer an error of ours with the status that clients know it by."""

    async def answer(request: Any, context: Context) -> Any:  # noqa: ANN401
        try:
            return await call(read(request), context)
        except BurnishError as error:
            await refuse(context, error)

    return answer


async def refuse(context: Context, error: BurnishError) -> None:
    """End a call with an error's status."""
    code = next((code for kind, code in _CODES if isinstance(error, kind)), grpc.StatusCode.INTERNAL)
    trailing = ((_PUSHBACK, str(1000 * error.retry_after_s)),) if isinstance(error, TransientError) else ()
    await context.abort(code, str(error), trailing)
