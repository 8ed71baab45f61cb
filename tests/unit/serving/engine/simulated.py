"""The batcher in simulated time: a loop that jumps to its next timer, and threads whose runs take what a model says."""

import asyncio
import random
import selectors
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from registry.errors import QueueFull
from registry.records.release import ServingPolicy
from serving.engine.batcher import Batcher, BatchLimits
from serving.engine.infer import contain
from serving.engine.runs import RunThreads
from serving.engine.statistics import Statistics
from serving.runtime import Array, Arrays
from tests.unit.serving.engine.doubles import FakeSession

_NOISE = 0.05
"""Standard deviation of a run's time, relative."""


class _Jumping(selectors.DefaultSelector):
    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        self.now += max(timeout or 0.0, 0.0)
        return super().select(0)


class SimulatedLoop(asyncio.SelectorEventLoop):
    """Nobody waits for a timer: when nothing else is left to do, it is its time."""

    def __init__(self) -> None:
        self._jumping = _Jumping()
        super().__init__(self._jumping)

    def time(self) -> float:
        return self._jumping.now


@contextmanager
def simulated_time() -> Iterator[SimulatedLoop]:
    """A loop whose time is the only one there is."""
    with pytest.MonkeyPatch.context() as patch, closing(SimulatedLoop()) as loop:
        patch.setattr(time, "perf_counter_ns", lambda: round(1e9 * loop.time()))
        patch.setattr(time, "perf_counter", loop.time)
        yield loop


class SimulatedSession(FakeSession):
    """Keeps the inputs of its runs."""

    def __init__(self) -> None:
        super().__init__(scale=10)
        self.ran: list[Array] = []

    def run(self, inputs: Mapping[str, Array]) -> Arrays:
        self.ran.append(inputs["x"])
        return super().run(inputs)


class SimulatedThreads(RunThreads):
    """A run computes at once, and its time passes after it."""

    def __init__(self, session: SimulatedSession, seconds: Callable[[int], float]) -> None:
        super().__init__(1)
        self._session = session
        self._seconds = seconds

    async def run(self, work: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
        try:
            return work(*args, **kwargs)
        finally:
            await asyncio.sleep(self._seconds(len(self._session.ran[-1])))


@dataclass(frozen=True)
class Phase:
    """Requests as they come for a while, and the machine meanwhile."""

    seconds: float
    requests_per_second: float
    rows: int = 1
    slowness: float = 1.0
    """How many times longer a run takes."""


@dataclass
class Outcome:
    """What became of the requests."""

    latencies: list[float] = field(default_factory=list)
    rows: int = 0
    """In requests that were answered."""
    refused: int = 0

    @property
    def p99(self) -> float:
        return sorted(self.latencies)[int(0.99 * len(self.latencies))]


def simulate(
    phases: list[Phase],
    seconds: Callable[[int], float],
    setting: BatchLimits,
    policy: ServingPolicy,
) -> Outcome:
    """Send the requests of the phases, each at its time whatever became of those before it."""
    chance, outcome = random.Random(7), Outcome()

    async def request(batcher: Batcher, rows: int) -> None:
        start = loop.time()
        try:
            await batcher.submit({"x": np.zeros((rows, 1), np.float32)}, rows)
        except QueueFull:
            outcome.refused += 1
        else:
            outcome.latencies.append(loop.time() - start)
            outcome.rows += rows

    async def work() -> None:
        session, now = SimulatedSession(), phases[0]

        def took(rows: int) -> float:
            return now.slowness * seconds(rows) * chance.lognormvariate(0, _NOISE)

        with closing(SimulatedThreads(session, took)) as threads:
            batcher = Batcher(session, setting, contain, threads, Statistics(), lambda: policy)
            async with asyncio.TaskGroup() as group:
                for now in phases:
                    end = loop.time() + now.seconds
                    while loop.time() < end:
                        group.create_task(request(batcher, now.rows))
                        await asyncio.sleep(chance.expovariate(now.requests_per_second))

    with simulated_time() as loop:
        loop.run_until_complete(work())
    return outcome
