"""What is seen of gRPC calls from outside the door: failures are counted and logged, sampled ones leave a span."""

import asyncio
from typing import Any

import grpc

from serving.doors.grpc_calls import Call
from serving.engine.trace_context import CURRENT, Parent, Trace, read_parent
from serving.engine.worker import Worker

DOOR = "grpc"

_OWN_FAULTS = frozenset({"UNKNOWN", "INTERNAL", "UNAVAILABLE", "DEADLINE_EXCEEDED"})
_ID = "x-request-id"


def observed(worker: Worker, call: Call, *, traced: bool) -> Call:
    """Watch the calls of one method.

    Args:
        worker: the worker that answers.
        call: the method, which ends a failed call itself.
        traced: sampled calls leave a span.
    """

    async def watched(request: Any, context: Any) -> Any:  # noqa: ANN401
        parent = _parent(context)
        trace = worker.tracing.begin(parent) if traced and worker.tracing is not None else None
        CURRENT.set(trace)
        try:
            response = await call(request, context)
        except asyncio.CancelledError:
            _end(worker, trace, context, "CANCELLED")
            raise
        except BaseException:  # context.abort raises what grpc alone knows
            status = (context.code() or grpc.StatusCode.UNKNOWN).name
            _end(worker, trace, context, status)
            _failed(worker, parent, context, status)
            raise
        traceparent = _end(worker, trace, context, "OK") or (parent.traceparent if parent is not None else None)
        if traceparent is not None:
            context.set_trailing_metadata((*_trailing(context), ("traceparent", traceparent)))
        return response

    return watched


def _parent(context: Any) -> Parent | None:  # noqa: ANN401
    traceparent, states = None, []
    for name, value in context.invocation_metadata() or ():
        if name == "traceparent":
            traceparent = str(value)
        elif name == "tracestate":
            states.append(str(value))
    return None if traceparent is None else read_parent(traceparent, ",".join(states))


def _end(worker: Worker, trace: Trace | None, context: Any, status: str) -> str | None:  # noqa: ANN401
    if trace is None or worker.tracing is None:
        return None
    return worker.tracing.end(trace, _request_id(context), status, failed=status in _OWN_FAULTS)


def _failed(worker: Worker, parent: Parent | None, context: Any, status: str) -> None:  # noqa: ANN401
    worker.failures.add(
        DOOR,
        status,
        str(context.details() or ""),
        own_fault=status in _OWN_FAULTS,
        request_id=_request_id(context),
        trace_id=parent.trace_id if parent is not None else None,
    )


def _request_id(context: Any) -> str | None:  # noqa: ANN401
    told = (*_trailing(context), *(context.invocation_metadata() or ()))
    return next((str(value) for name, value in told if name == _ID), None)


def _trailing(context: Any) -> tuple[tuple[str, str], ...]:  # noqa: ANN401
    return tuple(context.trailing_metadata() or ())
