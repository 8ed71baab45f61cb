"""The REST door where traces are collected: each sampled request leaves a span, whose id goes back with the answer."""

import asyncio
from collections.abc import Callable, Coroutine, Generator, Sequence
from http import HTTPStatus
from types import TracebackType
from typing import Any

from serving.doors.http_messages import Application, Eventual, Reply, Request
from serving.doors.rest_headers import TRACEPARENT
from serving.engine.trace_context import CURRENT, Trace, read_parent
from serving.engine.tracing import Tracing

_CLIENT_GONE = "499"


class TracedRest:
    """A REST application whose inferences are followed."""

    def __init__(self, application: Application, tracing: Tracing) -> None:
        """Take the application and what makes spans."""
        self._application = application
        self._tracing = tracing

    def __call__(self, requests: Sequence[Request]) -> list[Eventual]:
        """Answer requests; those that are sampled one by one, the others together."""
        traces = [self._begin(request) if request.path.endswith("/infer") else None for request in requests]
        pairs = list(zip(requests, traces, strict=True))
        others = iter(self._application([request for request, trace in pairs if trace is None]))
        return [next(others) if trace is None else self._followed(request, trace) for request, trace in pairs]

    def _followed(self, request: Request, trace: Trace) -> Eventual:
        token = CURRENT.set(trace)
        try:
            (answer,) = self._application([request])
        finally:
            CURRENT.reset(token)
        return (
            self._end(trace, answer) if isinstance(answer, Reply) else _Followed(answer, trace, self._end, self._gone)
        )

    def _begin(self, request: Request) -> Trace | None:
        traceparent, states = None, []
        for name, value in request.headers:
            if name == TRACEPARENT:
                traceparent = value.decode("latin-1")
            elif name == b"tracestate":
                states.append(value.decode("latin-1"))
        return self._tracing.begin(None if traceparent is None else read_parent(traceparent, ",".join(states)))

    def _end(self, trace: Trace, reply: Reply) -> Reply:
        own_fault = reply.status >= HTTPStatus.INTERNAL_SERVER_ERROR
        traceparent = self._tracing.end(trace, _request_id(reply), str(reply.status), failed=own_fault)
        if traceparent is None:
            return reply
        headers = [header for header in reply.headers if header[0] != TRACEPARENT]
        return reply._replace(headers=[*headers, (TRACEPARENT, traceparent.encode())])

    def _gone(self, trace: Trace) -> None:
        self._tracing.end(trace, None, _CLIENT_GONE, failed=False)


class _Followed(Coroutine[Any, Any, Reply]):
    """A door's coroutine with a trace.

    Not a coroutine around another: were it cancelled before it began, the one inside would never be awaited.
    """

    def __init__(
        self,
        inner: Coroutine[Any, Any, Reply],
        trace: Trace,
        end: Callable[[Trace, Reply], Reply],
        gone: Callable[[Trace], None],
    ) -> None:
        self._inner = inner
        self._trace = trace
        self._end = end
        self._gone = gone

    def send(self, value: Any) -> Any:  # noqa: ANN401
        CURRENT.set(self._trace)
        return self._step(self._inner.send, value)

    def throw(
        self,
        kind: type[BaseException] | BaseException,
        value: BaseException | object = None,
        at: TracebackType | None = None,
    ) -> Any:  # noqa: ANN401
        return self._step(self._inner.throw, kind if value is None else value)

    def close(self) -> None:
        self._inner.close()

    def __await__(self) -> Generator[Any, Any, Reply]:
        return self._end(self._trace, (yield from self._inner.__await__()))

    def _step(self, step: Callable[[Any], Any], argument: Any) -> Any:  # noqa: ANN401
        try:
            return step(argument)
        except StopIteration as stop:
            raise StopIteration(self._end(self._trace, stop.value)) from None
        except asyncio.CancelledError:
            self._gone(self._trace)
            raise


def _request_id(reply: Reply) -> str | None:
    return next((value.decode() for name, value in reply.headers if name == b"x-request-id"), None)
