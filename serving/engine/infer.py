"""Inference: route, hold the version, batch, run, check, capture. The one place where a session may fail in any way."""

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeVar, TypeVarTuple

from registry.errors import BurnishError, CandidateError, DeadlineExceeded
from serving.engine.backlog import Backlog
from serving.engine.batcher import Contain
from serving.engine.capture import Capture, CapturedRequest
from serving.engine.live import Live
from serving.engine.quick_runs import Outcome
from serving.engine.residency import Residency
from serving.engine.response_cache import request_key
from serving.engine.shadow import Answered, ShadowTraffic
from serving.engine.slot import Slot
from serving.engine.statistics import BACKEND, CANCELED, REJECTED, Timing
from serving.engine.trace_context import CURRENT
from serving.engine.urgency import ROUTINE, Urgency
from serving.runtime import Arrays

_BACKGROUND = Urgency(priority=2**32)
"""Behind every request that somebody waits for."""

Ts = TypeVarTuple("Ts")
T = TypeVar("T")


class Answer(NamedTuple):
    """What came out, and what made it."""

    slot: Slot
    request_id: str
    outputs: Arrays
    cached: bool = False
    """It was computed before, for an equal request."""


@dataclass(slots=True, eq=False)
class Asked:
    """A request whose inputs match the signature, and what came of it."""

    slot: Slot
    request_id: str
    inputs: Arrays
    outcome: Answer | BurnishError | None = None
    """None: it has to wait."""


class Engine:
    """Answers requests from what is live; knows nothing of wires."""

    def __init__(self, live: Live, residency: Residency, capture: Capture, backlog: Backlog) -> None:
        """Take what is live, where it is loaded, where sampled requests go, and what bounds those that wait."""
        self._live = live
        self._residency = residency
        self._capture = capture
        self.shadow = ShadowTraffic(self._compute_again, self._has_room, capture.folder)
        self._backlog = backlog

    def route(self, model: str, version: int | None, unit_id: str, tenant: str | None = None) -> Slot:
        """Return what answers this unit, so that the door can decode by its signature.

        Without a tenant the model is given by its qualified name.

        Raises:
            ModelNotFound: there is no such model or version, or nothing of it is live.
            TransientError: the model is not ready yet.
        """
        return self._live.route(model, version, unit_id, tenant)

    def infer_now(self, asked: Sequence[Asked]) -> None:
        """Compute requests at once whose versions are loaded, free, and quicker than a wait; those to one share runs.

        None is where the model has a response cache: the answer may be there.
        """
        if len(asked) == 1:
            self._infer_with(asked[0].slot, asked)
            return
        by_slot: dict[Slot, list[Asked]] = {}
        for one in asked:
            by_slot.setdefault(one.slot, []).append(one)
        for slot, some in by_slot.items():
            self._infer_with(slot, some)

    def _infer_with(self, slot: Slot, asked: Sequence[Asked]) -> None:
        batcher = self._residency.loaded(slot)
        if batcher is None or slot.cache is not None:
            return
        started = time.perf_counter_ns()
        requests = [one.inputs for one in asked]
        outcomes = batcher.run_now(requests, [slot.plan.rows(inputs) for inputs in requests])
        timing = Timing(compute_ns=time.perf_counter_ns() - started)
        for one, outcome in zip(asked, outcomes, strict=True):
            if outcome is not None:
                one.outcome = self._settled(one, outcome, timing)

    def _settled(self, asked: Asked, outcome: Outcome, timing: Timing) -> Answer | BurnishError:
        slot = asked.slot
        try:
            if isinstance(outcome, BurnishError):
                raise outcome
            return self._answer(slot, asked.request_id, asked.inputs, outcome, timing.compute_ns, timing)
        except BurnishError as error:
            _count_failure(slot, _reason(error), timing.compute_ns)
            return _failed(slot, error) if isinstance(error, CandidateError) else error

    async def infer(self, slot: Slot, request_id: str, inputs: Arrays, urgency: Urgency = ROUTINE) -> Answer:
        """Answer one request with the version that ``route`` gave; if cancelled, it leaves the queue.

        Where the model has a response cache, an equal request is not computed again, even if nothing is loaded.

        Args:
            slot: the version.
            request_id: names the request in answers and captures.
            inputs: arrays that match the signature, in its order.
            urgency: who goes first, and until when.

        Raises:
            CandidateError: the session failed on this batch.
            DeadlineExceeded: the time that the request had is over.
            InputError: the model does not take it, though its signature does.
            QueueFull: as many requests as may wait for this version.
            TransientError: the version cannot be loaded now, or the worker holds as many requests as it may.
        """
        cache = slot.cache
        if cache is None:
            return await self._infer(slot, request_id, inputs, urgency)
        started = time.perf_counter_ns()
        key = request_key(slot.served, inputs)
        outputs = cache.get(key)
        looked_ns = time.perf_counter_ns() - started
        if outputs is not None:
            slot.statistics.recalled(looked_ns)
            if self._capture.wants(request_id):
                self._offer_to_capture(slot, request_id, inputs, outputs)
            if (trace := CURRENT.get()) is not None:
                trace.slot = slot
            return Answer(slot, request_id, outputs, cached=True)
        answer = await self._infer(slot, request_id, inputs, urgency)
        started = time.perf_counter_ns()
        cache.put(key, answer.outputs)
        slot.statistics.cache_miss.add(looked_ns + time.perf_counter_ns() - started)
        return answer

    async def _infer(self, slot: Slot, request_id: str, inputs: Arrays, urgency: Urgency) -> Answer:
        started = time.perf_counter_ns()
        timing = Timing()
        try:
            self._residency.check_room(slot)
            held = self._backlog.enter(inputs, slot.tenant)
            try:
                outputs = await self._compute_in_time(slot, inputs, urgency, timing)
            finally:
                self._backlog.leave(held, slot.tenant)
            return self._answer(slot, request_id, inputs, outputs, time.perf_counter_ns() - started, timing)
        except (BurnishError, asyncio.CancelledError) as error:
            _count_failure(slot, _reason(error), time.perf_counter_ns() - started)
            if isinstance(error, CandidateError):
                raise _failed(slot, error) from error
            raise

    async def _compute_in_time(self, slot: Slot, inputs: Arrays, urgency: Urgency, timing: Timing) -> Arrays:
        left = urgency.seconds_left()
        if left is None:
            return await self._compute(slot, inputs, urgency, timing)
        try:
            async with asyncio.timeout(left):
                return await self._compute(slot, inputs, urgency, timing)
        except TimeoutError as error:
            raise DeadlineExceeded(f"{slot} did not answer within the time of the request") from error

    async def _compute(self, slot: Slot, inputs: Arrays, urgency: Urgency, timing: Timing) -> Arrays:
        rows = slot.plan.rows(inputs)
        batcher = await self._residency.hold(slot)
        try:
            started = time.perf_counter_ns()
            (outcome,) = batcher.run_now([inputs], [rows])
            if outcome is None:
                return await batcher.submit(inputs, rows, urgency, timing)
            if isinstance(outcome, BurnishError):
                raise outcome
            timing.compute_ns = time.perf_counter_ns() - started
            return outcome
        finally:
            self._residency.release(slot)

    def _answer(
        self,
        slot: Slot,
        request_id: str,
        inputs: Arrays,
        outputs: Arrays,
        took_ns: int,
        timing: Timing,
    ) -> Answer:
        """Check, count and capture."""
        rows = slot.plan.rows(inputs)
        _check_outputs(slot, outputs, rows)
        slot.statistics.answered(rows, took_ns)
        if self._capture.wants(request_id):
            self._offer_to_capture(slot, request_id, inputs, outputs)
        if slot.shadow is not None:
            self.shadow.offer(slot.shadow, Answered(slot, request_id, inputs, outputs, timing.compute_ns))
        if (trace := CURRENT.get()) is not None:
            trace.slot = slot
            trace.queue_ns, trace.compute_ns = timing.queue_ns, timing.compute_ns
        return Answer(slot, request_id, outputs)

    def _offer_to_capture(self, slot: Slot, request_id: str, inputs: Arrays, outputs: Arrays) -> None:
        rows = slot.plan.rows(inputs)
        self._capture.offer(CapturedRequest(slot.model, slot.served, request_id, rows, inputs, outputs))

    def _has_room(self, slot: Slot) -> bool:
        """True if to compute on this version now is in no primary's way."""
        return self._backlog.bytes == 0 and self._residency.has_room(slot)

    async def _compute_again(self, slot: Slot, inputs: Arrays) -> tuple[Arrays, int]:
        """Compute what was answered already, on a version that is the first to make room for others.

        Returns:
            The outputs, and the nanoseconds of their run.
        """
        timing = Timing()
        outputs = await self._compute(slot, inputs, _BACKGROUND, timing)
        self._residency.demote(slot)
        _check_outputs(slot, outputs, slot.plan.rows(inputs))
        return outputs, timing.compute_ns


def _count_failure(slot: Slot, reason: str, took_ns: int) -> None:
    slot.statistics.failed(reason, took_ns)
    if (trace := CURRENT.get()) is not None:
        trace.slot = slot


def _reason(error: BaseException) -> str:
    if isinstance(error, asyncio.CancelledError):
        return CANCELED
    return BACKEND if isinstance(error, CandidateError) else REJECTED


def _failed(slot: Slot, error: CandidateError) -> CandidateError:
    return CandidateError(f"{slot} failed on this batch: {error}")


def contained(notes: "memoryview[int]", place: int, flag: int) -> Contain:
    """Return a guard that calls what belongs to one session and turns whatever it raises into a BurnishError.

    So the worker lives on. The guard notes which thread is in the session, with a flag, and since when; it is on the
    path of every run, hence one function and not two.

    Raises:
        CandidateError: from the guard: the work raised anything but a BurnishError, which passes unchanged.
    """
    thread, now = threading.get_ident, time.monotonic_ns

    def guard(work: Callable[[*Ts], T], /, *args: *Ts) -> T:
        notes[place + 1] = now()
        notes[place] = thread() | flag
        try:
            return work(*args)
        except BurnishError:
            raise
        except Exception as error:
            raise CandidateError(f"{type(error).__name__}: {error}") from error
        finally:
            notes[place] = 0

    return guard


contain = contained(memoryview(bytearray(16)).cast("Q"), 0, 0)
"""A guard whose notes nobody reads."""


def _check_outputs(slot: Slot, outputs: Arrays, rows: int) -> None:
    for plan in slot.plan.outputs:
        array = outputs.get(plan.name)
        if array is None or (array.dtype is not plan.dtype and array.dtype != plan.dtype):
            got = "nothing" if array is None else array.dtype
            raise CandidateError(f"got {got} for the output {plan.name!r}, which is {plan.datatype}")
        if slot.plan.batched and array.shape[:1] != (rows,):
            raise CandidateError(f"the output {plan.name!r} has the shape {array.shape} for {rows} samples")
