"""Batching while busy: what arrives during a run waits, and the next run takes all of it up to the limit."""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import ParamSpec, Protocol, TypeVar

import numpy as np

from registry.errors import BurnishError, CandidateError, TransientError
from registry.records.model import ServedVersion
from serving.engine.statistics import Statistics
from serving.runtime import Arrays, Session

P = ParamSpec("P")
T = TypeVar("T")

INLINE_SECONDS = 0.0003
"""Runs shorter than a hop to a thread and back are done on the loop itself."""


class Contain(Protocol):
    """Calls what belongs to a session and turns whatever it raises into a BurnishError."""

    def __call__(self, work: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Return what the work returns."""
        ...


@dataclass(frozen=True)
class BatchLimits:
    """How a session's requests may be put together."""

    together: bool
    """Two requests may share a run."""
    max_batch_size: int
    """Rows in a shared run; a request with more runs alone."""
    inline_rows: int
    """Requests of at most this many rows run on the loop when the session is free."""
    max_waiting: int
    """Requests that may wait; more are turned away."""

    @classmethod
    def of(cls, served: ServedVersion, seconds_per_run: float, max_waiting: int) -> "BatchLimits":
        """Derive the limits of a version from the measured time of one run on one row.

        A request's cost follows from its rows only where every other size is fixed; else none runs on the loop.
        """
        signature = served.signature
        fixed = all(size is not None for spec in signature.inputs for size in spec.shape[1:])
        return cls(
            together=served.batch_invariant and signature.batched,
            max_batch_size=served.max_batch_size,
            inline_rows=int(INLINE_SECONDS / max(seconds_per_run, 1e-6)) if fixed else 0,
            max_waiting=max_waiting,
        )


@dataclass(eq=False)
class _Waiting:
    inputs: Arrays
    rows: int
    future: asyncio.Future[Arrays] = field(repr=False)
    since_ns: int = field(default_factory=time.perf_counter_ns)

    @property
    def sample_shapes(self) -> tuple[tuple[int, ...], ...]:
        return tuple(array.shape[1:] for array in self.inputs.values())


class Batcher:
    """The queue before one session; it runs one batch at a time."""

    def __init__(
        self, session: Session, limits: BatchLimits, contain: Contain, executor: Executor, statistics: Statistics
    ) -> None:
        """Take the session, the guard around its runs, where the slower runs go, and where they are counted."""
        self.session = session
        self._statistics = statistics
        self._limits = limits
        self._contain = contain
        self._executor = executor
        self._waiting: deque[_Waiting] = deque()
        self._task: asyncio.Task[None] | None = None

    @property
    def waiting(self) -> int:
        """Requests that wait for a run."""
        return len(self._waiting)

    def run_now(self, inputs: Arrays, rows: int) -> Arrays | None:
        """Compute one request's outputs here and now if that is quicker than to wait for them, else return None.

        Raises:
            CandidateError: the run failed.
        """
        if self._task is not None or rows > self._limits.inline_rows:
            return None
        start = time.perf_counter_ns()
        outputs = self._contain(self.session.run, inputs)
        took = time.perf_counter_ns() - start
        self._statistics.ran(rows, took)
        self._statistics.compute.add(took)
        return outputs

    async def submit(self, inputs: Arrays, rows: int) -> Arrays:
        """Compute one request's outputs, in a batch with others; a request that is cancelled leaves the queue.

        Raises:
            CandidateError: the batch that it was in failed.
            TransientError: too many requests wait already.
        """
        if len(self._waiting) >= self._limits.max_waiting:
            raise TransientError(f"{len(self._waiting)} requests wait for this version already; try again shortly")
        waiting = _Waiting(inputs, rows, asyncio.get_running_loop().create_future())
        self._waiting.append(waiting)
        if self._task is None:
            self._task = asyncio.create_task(self._work())
        try:
            return await waiting.future
        finally:
            if waiting in self._waiting:
                self._waiting.remove(waiting)

    async def finished(self) -> None:
        """Return when no run is under way; for a batcher that gets no new requests."""
        if self._task is not None:
            await asyncio.wait([self._task])

    async def _work(self) -> None:
        """Run batches until none waits."""
        try:
            while self._waiting:
                batch = self._next_batch()
                try:
                    _settle(batch, await self._run(batch))
                except BurnishError as error:
                    await self._settle_one_by_one(batch, error)
                finally:
                    for waiting in batch:
                        waiting.future.cancel()
        finally:
            self._task = None

    async def _run(self, batch: list[_Waiting]) -> list[Arrays]:
        start = time.perf_counter_ns()
        for waiting in batch:
            self._statistics.queue.add(start - waiting.since_ns)
        loop = asyncio.get_running_loop()
        outputs = await loop.run_in_executor(self._executor, self._contain, self._run_batch, batch)
        took = time.perf_counter_ns() - start
        self._statistics.ran(sum(waiting.rows for waiting in batch), took)
        for _ in batch:
            self._statistics.compute.add(took)
        return outputs

    async def _settle_one_by_one(self, batch: list[_Waiting], error: BurnishError) -> None:
        """Run the requests of a batch that failed alone, so that the one to blame harms no other."""
        if len(batch) == 1:
            _settle(batch, error)
            return
        for waiting in batch:
            if not waiting.future.done():
                try:
                    _settle([waiting], await self._run([waiting]))
                except BurnishError as own:
                    _settle([waiting], own)

    def _next_batch(self) -> list[_Waiting]:
        """Take the one that waits longest, and with it all that may share its run, in order of arrival."""
        first = self._waiting.popleft()
        batch, rows, left = [first], first.rows, deque[_Waiting]()
        if not self._limits.together:
            return batch
        shapes = first.sample_shapes
        for waiting in self._waiting:
            if rows + waiting.rows <= self._limits.max_batch_size and waiting.sample_shapes == shapes:
                batch.append(waiting)
                rows += waiting.rows
            else:
                left.append(waiting)
        self._waiting = left
        return batch

    def _run_batch(self, batch: list[_Waiting]) -> list[Arrays]:
        if len(batch) == 1:
            return [self.session.run(batch[0].inputs)]
        joined = {name: np.concatenate([waiting.inputs[name] for waiting in batch]) for name in batch[0].inputs}
        return _split(self.session.run(joined), [waiting.rows for waiting in batch])


def _split(outputs: Arrays, rows: list[int]) -> list[Arrays]:
    total = sum(rows)
    for name, array in outputs.items():
        if len(array) != total:
            raise CandidateError(f"the output {name!r} has {len(array)} rows for a batch of {total}")
    ends = np.cumsum(rows).tolist()
    return [
        {name: array[end - size : end] for name, array in outputs.items()} for size, end in zip(rows, ends, strict=True)
    ]


def _settle(batch: list[_Waiting], outcome: list[Arrays] | BurnishError) -> None:
    for position, waiting in enumerate(batch):
        if waiting.future.done():
            continue
        if isinstance(outcome, BurnishError):
            waiting.future.set_exception(outcome)
        else:
            waiting.future.set_result(outcome[position])
