"""A door where traces are collected: each sampled request leaves a span, whose id goes back with the answer."""

import asyncio
from collections.abc import Callable, Coroutine, Generator, Sequence
from types import TracebackType
from typing import Any, Generic, Protocol, TypeVar

from serving.engine.trace_context import CURRENT, Trace

Q = TypeVar("Q")
R = TypeVar("R")
Q_contra = TypeVar("Q_contra", contravariant=True)


class Follower(Protocol[Q_contra, R]):
    """How the requests of a door are followed."""

    def begin(self, request: Q_contra) -> Trace | None:
        """Return what a request is followed by; None if it is not sampled."""

    def end(self, trace: Trace, reply: R) -> R:
        """Make the span of a request that is answered; return the answer with what goes back of it."""

    def gone(self, trace: Trace) -> None:
        """Make the span of a request that nobody waits for any more."""


class Traced(Generic[Q, R]):
    """An application whose inferences are followed."""

    def __init__(
        self, application: Callable[[Sequence[Q]], Sequence[R | Coroutine[Any, Any, R]]], follower: Follower[Q, R]
    ) -> None:
        """Take the application and what follows its requests."""
        self._application = application
        self._follower = follower

    def __call__(self, requests: Sequence[Q]) -> list[R | Coroutine[Any, Any, R]]:
        """Answer requests; those that are sampled one by one, the others together."""
        traces = [self._follower.begin(request) for request in requests]
        pairs = list(zip(requests, traces, strict=True))
        others = iter(self._application([request for request, trace in pairs if trace is None]))
        return [next(others) if trace is None else self._followed(request, trace) for request, trace in pairs]

    def _followed(self, request: Q, trace: Trace) -> R | Coroutine[Any, Any, R]:
        token = CURRENT.set(trace)
        try:
            (answer,) = self._application([request])
        finally:
            CURRENT.reset(token)
        if isinstance(answer, Coroutine):
            return _Followed(answer, trace, self._follower)
        return self._follower.end(trace, answer)


class _Followed(Coroutine[Any, Any, R]):
    """A door's coroutine with a trace.

    Not a coroutine around another: were it cancelled before it began, the one inside would never be awaited.
    """

    def __init__(self, inner: Coroutine[Any, Any, R], trace: Trace, follower: Follower[Any, R]) -> None:
        self._inner = inner
        self._trace = trace
        self._follower = follower

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

    def __await__(self) -> Generator[Any, Any, R]:
        return self._follower.end(self._trace, (yield from self._inner.__await__()))

    def _step(self, step: Callable[[Any], Any], argument: Any) -> Any:  # noqa: ANN401
        try:
            return step(argument)
        except StopIteration as stop:
            raise StopIteration(self._follower.end(self._trace, stop.value)) from None
        except asyncio.CancelledError:
            self._follower.gone(self._trace)
            raise
