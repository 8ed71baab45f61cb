"""The requests that wait for one session: the more urgent first, each within a bound, none after its time."""

import asyncio
import math
import time
from bisect import bisect_left, insort
from dataclasses import dataclass, field
from itertools import count

from registry.errors import DeadlineExceeded
from serving.engine.statistics import Timing
from serving.engine.urgency import ROUTINE, Urgency
from serving.runtime import Arrays

OLDEST_LEADS = 8
"""Every so many batches, the request that waits longest leads one, whatever its priority: none starves."""

SampleShapes = tuple[tuple[int, ...], ...]


@dataclass(eq=False)
class Waiting:
    """One request that waits for its outputs."""

    inputs: Arrays
    rows: int
    future: asyncio.Future[Arrays] = field(repr=False)
    urgency: Urgency = ROUTINE
    timing: Timing = field(default_factory=Timing)
    since_ns: int = field(default_factory=time.perf_counter_ns)
    place: tuple[int, int] = (0, 0)
    """Priority, then order of arrival; given by the queue."""
    shapes: SampleShapes = field(init=False)
    """Only requests of equal sample shapes share a run."""

    def __post_init__(self) -> None:
        """Work out once what is compared in every batch."""
        self.shapes = tuple(array.shape[1:] for array in self.inputs.values())

    def wanted(self, now_ns: int) -> bool:
        """True while somebody waits for the outputs; one whose time is over is told so."""
        if self.future.done():
            return False
        if self.urgency.deadline_ns is None or now_ns < self.urgency.deadline_ns:
            return True
        self.future.set_exception(DeadlineExceeded("the time of the request was over before its run started"))
        return False


class RequestQueue:
    """In order of priority, then of arrival."""

    def __init__(self) -> None:
        """Start empty."""
        self._waiting: list[Waiting] = []
        self._arrivals = count()
        self._batches = 0

    def __len__(self) -> int:
        """How many wait."""
        return len(self._waiting)

    def add(self, waiting: Waiting) -> None:
        """Let a request wait."""
        waiting.place = (waiting.urgency.priority, next(self._arrivals))
        insort(self._waiting, waiting, key=_place)

    def discard(self, waiting: Waiting) -> None:
        """Take a request out if it still waits."""
        position = bisect_left(self._waiting, waiting.place, key=_place)
        if position < len(self._waiting) and self._waiting[position] is waiting:
            del self._waiting[position]

    def before(self, priority: int) -> list[Waiting]:
        """The requests that go before one that arrives now."""
        return self._waiting[: bisect_left(self._waiting, (priority, math.inf), key=_place)]

    def take(self, max_rows: int, *, together: bool) -> list[Waiting]:
        """Take the next batch: its leader, and what may share its run, in order.

        Args:
            max_rows: rows in a batch; a leader with more is a batch by itself.
            together: requests may share a run at all.

        Returns:
            The batch; empty if nobody waits any more.
        """
        now = time.perf_counter_ns()
        self._waiting = [waiting for waiting in self._waiting if waiting.wanted(now)]
        if not self._waiting:
            return []
        self._batches += 1
        oldest_leads = self._batches % OLDEST_LEADS == 0
        leader = min(self._waiting, key=_arrival) if oldest_leads else self._waiting[0]
        batch, rows, left = [leader], leader.rows, []
        for waiting in self._waiting:
            if waiting is leader:
                continue
            if together and rows + waiting.rows <= max_rows and waiting.shapes == leader.shapes:
                batch.append(waiting)
                rows += waiting.rows
            else:
                left.append(waiting)
        self._waiting = left
        return batch


def _place(waiting: Waiting) -> tuple[int, int]:
    return waiting.place


def _arrival(waiting: Waiting) -> int:
    return waiting.place[1]
