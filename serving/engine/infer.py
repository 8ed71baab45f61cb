"""Inference: route, hold the version, batch, run, check, capture. The one place where a session may fail in any way."""

import time
from collections.abc import Callable
from typing import NamedTuple, ParamSpec, TypeVar

from registry.errors import BurnishError, CandidateError
from serving.engine.capture import Capture, CapturedRequest
from serving.engine.live import Live
from serving.engine.residency import Residency, Slot
from serving.runtime import Arrays

P = ParamSpec("P")
T = TypeVar("T")


class Answer(NamedTuple):
    """What came out, and what made it."""

    slot: Slot
    request_id: str
    outputs: Arrays


class Engine:
    """Answers requests from what is live; knows nothing of wires."""

    def __init__(self, live: Live, residency: Residency, capture: Capture) -> None:
        """Take what is live, where it is loaded, and where sampled requests go."""
        self._live = live
        self._residency = residency
        self._capture = capture

    def route(self, model: str, version: int | None, unit_id: str) -> Slot:
        """Return what answers this unit, so that the door can decode by its signature.

        Raises:
            ModelNotFound: there is no such model or version, or nothing of it is live.
            TransientError: the model is not ready yet.
        """
        return self._live.route(model, version, unit_id)

    def infer_now(self, slot: Slot, request_id: str, inputs: Arrays) -> Answer | None:
        """Compute one request at once if its version is loaded, free, and quicker than a wait; else return None.

        Raises:
            CandidateError: the session failed.
        """
        batcher = self._residency.loaded(slot)
        if batcher is None:
            return None
        started = time.perf_counter_ns()
        try:
            outputs = batcher.run_now(inputs, slot.plan.rows(inputs))
        except CandidateError as error:
            raise _failed(slot, error, started) from error
        return None if outputs is None else self._answer(slot, request_id, inputs, outputs, started)

    async def infer(self, slot: Slot, request_id: str, inputs: Arrays) -> Answer:
        """Compute one request on the version that ``route`` gave; if cancelled, it leaves the queue.

        Args:
            slot: the version.
            request_id: names the request in answers and captures.
            inputs: arrays that match the signature, in its order.

        Raises:
            CandidateError: the session failed on this batch.
            TransientError: the version cannot be loaded now, or too many requests wait.
        """
        started = time.perf_counter_ns()
        rows = slot.plan.rows(inputs)
        batcher = await self._residency.hold(slot)
        try:
            outputs = batcher.run_now(inputs, rows)
            if outputs is None:
                outputs = await batcher.submit(inputs, rows)
        except CandidateError as error:
            raise _failed(slot, error, started) from error
        finally:
            self._residency.release(slot)
        return self._answer(slot, request_id, inputs, outputs, started)

    def _answer(self, slot: Slot, request_id: str, inputs: Arrays, outputs: Arrays, started_ns: int) -> Answer:
        rows = slot.plan.rows(inputs)
        try:
            _check_outputs(slot, outputs, rows)
        except CandidateError as error:
            raise _failed(slot, error, started_ns) from error
        slot.statistics.answered(rows, time.perf_counter_ns() - started_ns)
        if self._capture.wants(request_id):
            self._capture.offer(CapturedRequest(slot.model, slot.served, request_id, rows, inputs, outputs))
        return Answer(slot, request_id, outputs)


def _failed(slot: Slot, error: CandidateError, started_ns: int) -> CandidateError:
    slot.statistics.fail.add(time.perf_counter_ns() - started_ns)
    return CandidateError(f"{slot} failed on this batch: {error}")


def contain(work: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    """Call what belongs to one session and turn whatever it raises into a BurnishError: the worker lives on.

    Raises:
        CandidateError: the work raised anything but a BurnishError, which passes unchanged.
    """
    try:
        return work(*args, **kwargs)
    except BurnishError:
        raise
    except Exception as error:
        raise CandidateError(f"{type(error).__name__}: {error}") from error


def _check_outputs(slot: Slot, outputs: Arrays, rows: int) -> None:
    for plan in slot.plan.outputs:
        array = outputs.get(plan.name)
        if array is None or array.dtype != plan.dtype:
            got = "nothing" if array is None else array.dtype
            raise CandidateError(f"got {got} for the output {plan.name!r}, which is {plan.datatype}")
        if slot.plan.batched and array.shape[:1] != (rows,):
            raise CandidateError(f"the output {plan.name!r} has the shape {array.shape} for {rows} samples")
