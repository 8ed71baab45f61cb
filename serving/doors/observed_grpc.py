"""What is seen of gRPC calls from outside the door: failures are counted and logged, sampled ones leave a span."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import grpc

from registry.errors import BurnishError, QueueFull
from serving.doors.grpc_calls import (
    REQUEST_ID,
    Call,
    CallMetadata,
    Context,
    Metadata,
    code_of,
    read,
    read_metadata,
    refuse,
)
from serving.doors.grpc_reading import Readings
from serving.engine.trace_context import CURRENT, Trace
from serving.engine.worker import Worker

DOOR = "grpc"
TRACEPARENT = "traceparent"

_OWN_FAULTS = frozenset({"UNKNOWN", "INTERNAL", "UNAVAILABLE", "DEADLINE_EXCEEDED"})


class Observer:
    """Watches the calls of one door, and the requests of its streams."""

    def __init__(self, worker: Worker, readings: Readings) -> None:
        """Take the worker that answers, and how calls are read."""
        self._worker = worker
        self._readings = readings

    def begin(self, about: CallMetadata) -> Trace | None:
        """Begin to follow a request if it is sampled."""
        tracing = self._worker.tracing
        trace = tracing.begin(about.parent) if tracing is not None else None
        if trace is not None:
            CURRENT.set(trace)
        return trace

    def end(self, trace: Trace | None, about: CallMetadata, status: str) -> str | None:
        """Say that a request is over; return the traceparent that goes back: of its span, else the one it came with."""
        traceparent = None
        if trace is not None and self._worker.tracing is not None:
            traceparent = self._worker.tracing.end(trace, about.request_id, status, failed=status in _OWN_FAULTS)
        if traceparent is None and about.parent is not None:
            return about.parent.traceparent
        return traceparent

    def failed(self, trace: Trace | None, about: CallMetadata, status: str, message: str) -> str | None:
        """Say that a request has failed, and count and log it; return the traceparent that goes back."""
        self._worker.failures.add(
            DOOR,
            status,
            message,
            own_fault=status in _OWN_FAULTS,
            request_id=about.request_id,
            trace_id=about.parent.trace_id if about.parent is not None else None,
        )
        return self.end(trace, about, status)

    async def refuse(self, trace: Trace | None, about: CallMetadata, context: Context, error: BurnishError) -> None:
        """End a call with an error's status; count and log it."""
        traceparent = self.failed(trace, about, code_of(error).name, str(error))
        await refuse(context, error, _trailing(about, traceparent, with_id=True))

    def watch(self, call: Call, *, traced: bool) -> Callable[[Any, Context], Awaitable[Any]]:
        """Watch the calls of one method, and answer an error of ours with its status.

        The request id goes back with an answer if the client gave it (answers of models hold it anyway: more metadata
        costs as much as a quick model), and with every refusal.

        Args:
            call: the method.
            traced: sampled calls leave a span.
        """

        async def watched(_: Any, context: Context) -> Any:  # noqa: ANN401
            try:
                received = await self._readings.message(context)
            except QueueFull as error:
                await self.refuse(None, read_metadata(context, 0), context, error)
                return None
            about = read_metadata(context, received.size)
            trace = self.begin(about) if traced else None
            try:
                response = await call(read(received), about, context)
            except asyncio.CancelledError:
                self.end(trace, about, "CANCELLED")
                raise
            except BurnishError as error:
                await self.refuse(trace, about, context, error)
            except BaseException:
                self.failed(trace, about, grpc.StatusCode.UNKNOWN.name, "")
                raise
            else:
                if trace is not None or about.given or about.parent is not None:
                    context.set_trailing_metadata(_trailing(about, self.end(trace, about, "OK"), with_id=about.given))
                return response

        return watched


def _trailing(about: CallMetadata, traceparent: str | None, *, with_id: bool) -> Metadata:
    id_ = ((REQUEST_ID, about.request_id),) if with_id else ()
    return id_ if traceparent is None else (*id_, (TRACEPARENT, traceparent))
