"""Batching while busy: what arrives during a run waits, and the next run takes all of it up to the limit."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import accumulate
from typing import Protocol, TypeVar, TypeVarTuple

import numpy as np

from registry.errors import BurnishError, CandidateError, InputError, QueueFull
from registry.records.model import ServedVersion
from registry.records.release import ServingPolicy
from registry.records.tenant import DEFAULT_TENANT
from serving.engine.backlog import Drain
from serving.engine.batch_limit import BatchLimit
from serving.engine.queue import RequestQueue, SampleShapes, Waiting
from serving.engine.quick_runs import INLINE_SECONDS, Outcome, QuickRuns
from serving.engine.runs import RunThreads, Share
from serving.engine.statistics import Statistics, Timing
from serving.engine.urgency import ROUTINE, Urgency
from serving.runtime import Arrays, Session

Ts = TypeVarTuple("Ts")
T = TypeVar("T")


class Contain(Protocol):
    """Calls what belongs to a session and turns whatever it raises into a BurnishError."""

    def __call__(self, work: Callable[[*Ts], T], /, *args: *Ts) -> T:
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
    """Requests and batches of at most this many rows run on the loop when the session is free."""
    seconds_per_run: float
    """On one row, measured when it was loaded."""
    max_waiting: int
    """Requests that may wait where the model's policy names no number; more are turned away."""

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
            seconds_per_run=seconds_per_run,
            max_waiting=max_waiting,
        )


class Batcher:
    """The queue before one session; it runs one batch at a time."""

    def __init__(
        self,
        session: Session,
        limits: BatchLimits,
        contain: Contain,
        threads: RunThreads,
        statistics: Statistics,
        policy: Callable[[], ServingPolicy] = ServingPolicy,
        tenant: str = DEFAULT_TENANT,
    ) -> None:
        """Take the session, the guard around its runs, the threads of the slower ones, and where they are counted.

        ``policy`` tells the model's policy in force; its tenant shares the threads with the others.
        """
        self.session = session
        self._statistics = statistics
        self._limits = limits
        self._threads = threads
        self._policy = policy
        self._share = Share(tenant)
        self._queue = RequestQueue()
        self._drain = Drain()
        self._learned = BatchLimit(limits.max_batch_size, limits.seconds_per_run)
        shared_rows = limits.max_batch_size if limits.together else 0
        self._compute = partial(_compute, session, contain)  # which knows no batcher: a cycle would outlive the session
        self._quick = QuickRuns(self._compute, limits.inline_rows, shared_rows, statistics)
        self._free_ns = 0
        """When the run under way is over, as far as can be told."""
        self._task: asyncio.Task[None] | None = None

    @property
    def waiting(self) -> int:
        """Requests that wait for a run."""
        return len(self._queue)

    def run_now(self, requests: Sequence[Arrays], rows: Sequence[int]) -> list[Outcome | None]:
        """Compute requests here and now where that is quicker than to wait for them; they share runs if they may.

        Returns:
            For each request what came of it, or None: it is to be submitted.
        """
        return self._quick.run(requests, rows) if self._task is None else [None] * len(requests)

    async def submit(
        self, inputs: Arrays, rows: int, urgency: Urgency = ROUTINE, timing: Timing | None = None
    ) -> Arrays:
        """Compute one request's outputs, in a batch with others; a request that is cancelled leaves the queue.

        ``timing`` is told how long it waited and ran.

        Raises:
            CandidateError: the batch that it was in failed.
            InputError: the model does not take it, though its signature does.
            QueueFull: as many requests wait as may, or as can be answered within the model's latency objective.
            DeadlineExceeded: its time was over before it ran.
        """
        waiting = Waiting(inputs, rows, asyncio.get_running_loop().create_future(), urgency, timing or Timing())
        if len(self._queue):
            self._check_room(waiting)
        self._queue.add(waiting)
        if self._task is None:
            self._drain.begin()
            self._task = asyncio.create_task(self._work())
        try:
            return await waiting.future
        finally:
            self._queue.discard(waiting)

    async def finished(self) -> None:
        """Return when no run is under way; for a batcher that gets no new requests."""
        if self._task is not None:
            await asyncio.wait([self._task])

    @property
    def _objective_seconds(self) -> float | None:
        milliseconds = self._policy().latency_objective_ms
        return None if milliseconds is None else milliseconds / 1000

    def _check_room(self, newcomer: Waiting) -> None:
        full = None
        if len(self._queue) >= (self._policy().max_waiting or self._limits.max_waiting):
            full = f"{len(self._queue)} requests wait for this version already"
        else:
            objective = self._objective_seconds
            if objective is not None and self._seconds_until_answer(newcomer, objective) > objective:
                full = f"{len(self._queue)} requests wait for this version, all that it can answer within its objective"
        if full:
            raise QueueFull(f"{full}; try again shortly", retry_after_s=self._drain.retry_after_s(len(self._queue)))

    def _seconds_until_answer(self, newcomer: Waiting, objective: float) -> float:
        """The rest of the run under way, and the runs of all that go before, each of its own shapes."""
        ahead = [*self._queue.before(newcomer.urgency.priority), newcomer]
        rest = max(0, self._free_ns - time.perf_counter_ns()) / 1e9
        if not self._limits.together:
            return rest + sum(self._learned.seconds(waiting.rows, waiting.rows) for waiting in ahead)
        rows = Counter[SampleShapes]()
        for waiting in ahead:
            rows[waiting.shapes] += waiting.rows
        limit = self._learned.rows(objective)
        return rest + sum(self._learned.seconds(size, limit) for size in rows.values())

    async def _work(self) -> None:
        """Run batches until none waits. Each is put together when its thread is there, of all that wait by then."""
        try:
            while self._queue:
                await self._run_next()
                if self._queue:
                    await asyncio.sleep(0)  # a batch that ran on the loop gave nothing else its turn
        finally:
            self._task = None

    async def _run_next(self) -> None:
        batch: list[Waiting] = []
        asked_ns = time.perf_counter_ns()
        try:
            async with self._threads.turn(self._share):
                batch = self._queue.take(self._learned.rows(self._objective_seconds), together=self._limits.together)
                self._count_waits(batch)
                done = not batch or await self._run(batch, asked_ns)
            if not done:
                await self._run_one_by_one(batch)
            self._drain.left(len(batch))
        finally:
            for waiting in batch:
                waiting.future.cancel()

    def _count_waits(self, batch: list[Waiting]) -> None:
        """Count how long each waited for its first run; one that is run again, alone, has waited but once."""
        now = time.perf_counter_ns()
        for waiting in batch:
            waiting.timing.queue_ns = now - waiting.since_ns
            self._statistics.queue.add(waiting.timing.queue_ns)

    async def _run_one_by_one(self, batch: list[Waiting]) -> None:
        """Run the requests of a batch that failed alone, so that the one to blame harms no other."""
        for waiting in batch:
            asked_ns = time.perf_counter_ns()
            async with self._threads.turn(self._share):
                if waiting.wanted(time.perf_counter_ns()):
                    await self._run([waiting], asked_ns)

    async def _run(self, batch: list[Waiting], asked_ns: int) -> bool:
        """Run a batch and hand out its outputs; return False if it failed and its requests are to be run alone."""
        start = time.perf_counter_ns()
        rows = sum(waiting.rows for waiting in batch)
        learning = self._objective_seconds is not None
        if learning:
            self._free_ns = asked_ns + int(1e9 * self._learned.seconds(rows, rows))
        work = [waiting.inputs for waiting in batch], [waiting.rows for waiting in batch]
        try:
            if rows <= self._limits.inline_rows:
                outputs = self._compute(*work)
            else:
                outputs = await self._threads.run(self._compute, *work)
        except BurnishError as error:
            if len(batch) > 1:
                return False
            _settle(batch[0], error)
            return True
        now = time.perf_counter_ns()
        took = now - start
        self._statistics.ran(rows, took)
        if learning:
            self._learned.ran(rows, (now - asked_ns) / 1e9)
        for waiting, own in zip(batch, outputs, strict=True):
            waiting.timing.compute_ns = took
            self._statistics.compute.add(took)
            _settle(waiting, own)
        return True


def _compute(session: Session, contain: Contain, requests: Sequence[Arrays], rows: Sequence[int]) -> list[Arrays]:
    try:
        if len(requests) == 1:
            return [contain(session.run, requests[0])]
        return contain(_compute_joined, session, requests, rows)
    except CandidateError as error:
        if session.refuses(error.__cause__):
            raise InputError(f"inputs: the model does not take these values or sizes: {error}") from error
        raise


def _compute_joined(session: Session, requests: Sequence[Arrays], rows: Sequence[int]) -> list[Arrays]:
    joined = {name: np.concatenate([inputs[name] for inputs in requests]) for name in requests[0]}
    return _split(session.run(joined), rows)


def _split(outputs: Arrays, rows: Sequence[int]) -> list[Arrays]:
    total = sum(rows)
    for name, array in outputs.items():
        if len(array) != total:
            raise CandidateError(f"the output {name!r} has {len(array)} rows for a batch of {total}")
    ends = accumulate(rows)
    return [
        {name: array[end - size : end] for name, array in outputs.items()} for size, end in zip(rows, ends, strict=True)
    ]


def _settle(waiting: Waiting, outcome: Outcome) -> None:
    if waiting.future.done():
        return
    if isinstance(outcome, BurnishError):
        waiting.future.set_exception(outcome)
    else:
        waiting.future.set_result(outcome)
