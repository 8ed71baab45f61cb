"""Threads shared between sessions: turns by thread time had, and one thread that slow sessions leave free."""

import asyncio
from collections.abc import Iterator
from contextlib import closing

import pytest

from serving.engine import runs
from serving.engine.runs import SLOW_SECONDS, RunThreads, Share
from tests.unit.serving.engine.doubles import run


@pytest.fixture
def threads() -> Iterator[RunThreads]:
    with closing(RunThreads(1)) as threads:
        yield threads


class Running:
    """Sessions that hold their turn until they are told to end it."""

    def __init__(self, threads: RunThreads) -> None:
        self.started: list[str] = []
        self._threads = threads
        self._ends: dict[str, asyncio.Event] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}

    async def start(self, name: str, share: Share) -> None:
        self._ends[name] = asyncio.Event()
        self._tasks[name] = asyncio.create_task(self._turn(name, share))
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    async def end(self, name: str) -> None:
        self._ends[name].set()
        await self._tasks[name]
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    async def give_up(self, name: str) -> None:
        self._tasks[name].cancel()
        with pytest.raises(asyncio.CancelledError):
            await self._tasks[name]
        await asyncio.sleep(0)

    async def _turn(self, name: str, share: Share) -> None:
        async with self._threads.turn(share):
            self.started.append(name)
            await self._ends[name].wait()


def slow() -> Share:
    share = Share()
    share.usual_seconds = 10 * SLOW_SECONDS
    return share


def test_slow_sessions_leave_a_thread_to_the_others(threads: RunThreads) -> None:
    async def work() -> None:
        running = Running(threads)
        await running.start("slow", slow())
        await running.start("also slow", slow())
        await running.start("quick", Share())
        assert running.started == ["slow", "quick"]
        await running.start("also quick", Share())
        await running.end("quick")
        assert running.started == ["slow", "quick", "also quick"]
        await running.end("slow")
        assert running.started[-1] == "also slow"
        for name in ("also quick", "also slow"):
            await running.end(name)

    run(work())


def test_who_had_less_goes_first_and_time_away_is_not_saved_up(threads: RunThreads) -> None:
    async def work() -> None:
        running = Running(threads)
        much, little = Share(), Share()
        much.had, little.had = 3.0, 2.0
        await running.start("a", slow())
        await running.start("b", Share())
        await running.start("much", much)
        await running.start("little", little)
        await running.end("b")
        await running.end("little")
        assert running.started == ["a", "b", "little", "much"]
        late = Share()
        await running.start("late", late)
        assert late.had == 3.0, "it starts level with the others, not with a claim to all that they had"
        for name in ("a", "much", "late"):
            await running.end(name)

    run(work())


def test_sessions_that_always_have_work_share_a_thread_by_time(threads: RunThreads) -> None:
    async def work() -> None:
        order: list[str] = []

        async def turns(name: str, seconds: float) -> None:
            share = Share()
            while len(order) < 60:
                async with threads.turn(share):
                    order.append(name)
                    await asyncio.sleep(0)
                share.had += seconds

        running = Running(threads)
        await running.start("held", slow())
        await asyncio.gather(turns("greedy", 4.0), turns("one", 1.0), turns("two", 1.0))
        await running.end("held")
        assert 4 <= order.count("greedy") <= 10, "nine turns of sixty are four, one and one of nine"
        assert abs(order.count("one") - order.count("two")) <= 2

    run(work())


def test_who_gives_up_leaves_the_line_and_the_thread(threads: RunThreads) -> None:
    async def work() -> None:
        running = Running(threads)
        for name in ("a", "b"):
            await running.start(name, Share())
        await running.start("left", Share())
        await running.give_up("left")
        await running.start("next", Share())
        await running.give_up("a")
        assert running.started == ["a", "b", "next"]
        for name in ("b", "next"):
            await running.end(name)

    run(work())


def test_a_run_is_computed_on_a_thread_and_its_time_counts(threads: RunThreads) -> None:
    async def work() -> None:
        share = Share()
        async with threads.turn(share):
            assert await threads.run(lambda a, b: a + b, 2, b=3) == 5
        assert share.had > 0
        assert share.usual_seconds > 0

    run(work())


class Clock:
    """A clock that only runs turn."""

    seconds = 0.0

    def perf_counter(self) -> float:
        return self.seconds


def test_a_tenant_that_floods_many_sessions_gets_no_more_than_one_with_a_single_session(
    threads: RunThreads, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    monkeypatch.setattr(runs, "time", clock)

    async def work() -> None:
        order: list[str] = []

        async def turns(tenant: str) -> None:
            share = Share(tenant)
            while len(order) < 60:
                async with threads.turn(share):
                    order.append(tenant)
                    await asyncio.sleep(0)
                    clock.seconds += 0.001

        running = Running(threads)
        await running.start("held", slow())
        await asyncio.gather(*(turns("flood") for _ in range(20)), turns("quiet"))
        await running.end("held")
        assert 28 <= order.count("quiet") <= 32, "half, where each run takes as long"

    run(work())
