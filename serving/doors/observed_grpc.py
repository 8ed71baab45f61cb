"""What is seen of gRPC calls from outside the door: failures are counted and logged, sampled ones leave a span."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import grpc

from registry.errors import BurnishError
from serving.doors.grpc_calls import REQUEST_ID, Call, CallMetadata, Context, code_of, read, read_metadata, refuse
from serving.engine.trace_context import CURRENT, Trace
from serving.engine.worker import Worker

DOOR = "grpc"

_OWN_FAULTS = frozenset({"UNKNOWN", "INTERNAL", "UNAVAILABLE", "DEADLINE_EXCEEDED"})


def observed(worker: Worker, call: Call, *, traced: bool) -> Callable[[Any, Context], Awaitable[Any]]:
    """Watch the calls of one method, and answer an error of ours with its status.

    The request id goes back with an answer if the client gave it (answers of models hold it anyway: more metadata
    costs as much as a quick model), and with every refusal.

    Args:
        worker: the worker that answers.
        call: the method.
        traced: sampled calls leave a span.
    """

    async def watched(request: Any, context: Context) -> Any:  # noqa: ANN401
        about = read_metadata(context)
        trace = worker.tracing.begin(about.parent) if traced and worker.tracing is not None else None
        if trace is not None:
            CURRENT.set(trace)
        try:
            response = await call(read(request), about, context)
        except asyncio.CancelledError:
            _end(worker, trace, about, "CANCELLED")
            raise
        except BurnishError as error:
            _failed(worker, trace, about, code_of(error).name, str(error))
            await refuse(context, error, about.request_id)
        except BaseException:
            _failed(worker, trace, about, grpc.StatusCode.UNKNOWN.name, "")
            raise
        else:
            if trace is not None or about.given or about.parent is not None:
                context.set_trailing_metadata(_trailing(about, _end(worker, trace, about, "OK")))
            return response

    return watched


def _end(worker: Worker, trace: Trace | None, about: CallMetadata, status: str) -> str | None:
    if trace is None or worker.tracing is None:
        return None
    return worker.tracing.end(trace, about.request_id, status, failed=status in _OWN_FAULTS)


def _failed(worker: Worker, trace: Trace | None, about: CallMetadata, status: str, message: str) -> None:
    _end(worker, trace, about, status)
    worker.failures.add(
        DOOR,
        status,
        message,
        own_fault=status in _OWN_FAULTS,
        request_id=about.request_id,
        trace_id=about.parent.trace_id if about.parent is not None else None,
    )


def _trailing(about: CallMetadata, traceparent: str | None) -> tuple[tuple[str, str], ...]:
    if traceparent is None and about.parent is not None:
        traceparent = about.parent.traceparent
    id_ = ((REQUEST_ID, about.request_id),) if about.given else ()
    return id_ if traceparent is None else (*id_, ("traceparent", traceparent))
