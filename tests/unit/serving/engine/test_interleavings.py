"""Whatever comes together, each request gets the outputs of its own rows, once, or hears why not."""

import asyncio
import time
from contextlib import closing
from dataclasses import dataclass

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from registry.errors import CandidateError, DeadlineExceeded, QueueFull
from serving.engine.batcher import Batcher, BatchLimits
from serving.engine.infer import contain
from serving.engine.statistics import Statistics
from serving.engine.urgency import Urgency
from serving.runtime import Arrays
from tests.unit.serving.engine.simulated import SimulatedSession, SimulatedThreads, simulated_time

POISON = 13
MAX_ROWS = 4
MAX_WAITING = 12
Milliseconds = st.integers(1, 60)


@dataclass(frozen=True)
class Sent:
    """One request: when it comes, what it holds, and how long it is wanted."""

    after_ms: int
    rows: int
    width: int
    priority: int
    timeout_ms: int | None
    cancelled_ms: int | None


Sending = st.builds(
    Sent,
    after_ms=st.integers(0, 15),
    rows=st.integers(1, 6),
    width=st.integers(1, 3),
    priority=st.integers(1, 3),
    timeout_ms=st.none() | Milliseconds,
    cancelled_ms=st.none() | Milliseconds,
)


class PoisonedSession(SimulatedSession):
    def run(self, inputs: Arrays) -> Arrays:  # type: ignore[override]
        outputs = super().run(inputs)
        if (inputs["x"] == POISON).any():
            raise ZeroDivisionError("poisoned")
        return outputs


class World:
    """Requests by number: what each was answered and when it was given up."""

    def __init__(self) -> None:
        self.session = PoisonedSession()
        self.started: list[float] = []
        self.wanted_until: dict[int, float] = {}
        self.outcomes: list[object] = []

    def seconds(self, rows: int) -> float:
        self.started.append(asyncio.get_running_loop().time())
        return 0.005 + 0.002 * rows

    async def play(self, sent: list[Sent], *, together: bool) -> None:
        with closing(SimulatedThreads(self.session, self.seconds)) as threads:
            limits = BatchLimits(
                together=together,
                max_batch_size=MAX_ROWS,
                inline_rows=0,
                seconds_per_run=0.007,
                max_waiting=MAX_WAITING,
            )
            batcher = Batcher(self.session, limits, contain, threads, Statistics())
            tasks = []
            for number, one in enumerate(sent):
                await asyncio.sleep(one.after_ms / 1000)
                tasks.append(asyncio.create_task(self._request(batcher, number, one)))
            self.outcomes = await asyncio.gather(*tasks, return_exceptions=True)
            await batcher.finished()
            assert batcher.waiting == 0

    async def _request(self, batcher: Batcher, number: int, sent: Sent) -> Arrays:
        loop = asyncio.get_running_loop()
        inputs: Arrays = {"x": np.full((sent.rows, sent.width), number, np.float32)}
        deadline = None if sent.timeout_ms is None else time.perf_counter_ns() + 10**6 * sent.timeout_ms
        gives_up = None if sent.cancelled_ms is None else sent.cancelled_ms / 1000
        try:
            async with asyncio.timeout(gives_up):
                return await batcher.submit(inputs, sent.rows, Urgency(sent.priority, deadline))
        finally:
            ended = loop.time()
            self.wanted_until[number] = ended if deadline is None else min(ended, deadline / 1e9)


@given(st.lists(Sending, max_size=40), st.booleans())
def test_every_request_gets_its_own_rows_or_a_reason(sent: list[Sent], together: bool) -> None:
    with simulated_time() as loop:
        world = World()
        loop.run_until_complete(world.play(sent, together=together))
    assert len(world.outcomes) == len(sent)
    for number, (one, outcome) in enumerate(zip(sent, world.outcomes, strict=True)):
        match outcome:
            case {"y": outputs}:
                assert outputs.shape == (one.rows, one.width)
                assert (outputs == 10 * number).all()
            case TimeoutError():
                assert one.cancelled_ms is not None
            case DeadlineExceeded():
                assert one.timeout_ms is not None
            case CandidateError():
                assert number == POISON
            case _:
                assert isinstance(outcome, QueueFull)
    _check_runs(world, sent, together=together)


def _check_runs(world: World, sent: list[Sent], *, together: bool) -> None:
    """No run is larger than it may be, none mixes shapes, and none computes what nobody waited for."""
    for start, inputs in zip(world.started, world.session.ran, strict=True):
        numbers = set(inputs[:, 0].astype(int).tolist())
        assert len({sent[number].width for number in numbers}) == 1
        assert len(inputs) == sum(sent[number].rows for number in numbers)
        assert len(numbers) == 1 or (together and len(inputs) <= MAX_ROWS)
        for number in numbers:
            assert world.wanted_until[number] >= start
    runs = [set(inputs[:, 0].astype(int).tolist()) for inputs in world.session.ran]
    for number in range(len(sent)):
        own = [numbers for numbers in runs if number in numbers]
        assert len(own) <= 1 or (len(own) == 2 and POISON in own[0] and own[1] == {number})
