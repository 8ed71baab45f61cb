"""The loop between tenants: one alone is never held up, one that floods waits, who is served when is counted."""

import asyncio
import time

import pytest

from registry.errors import QueueFull
from serving.engine import loop_turns
from serving.engine.backlog import Backlog
from serving.engine.loop_turns import LoopTurns
from serving.engine.trace_context import CURRENT, Trace
from tests.unit.serving.engine.doubles import run, until

MIB = 2**20


class Clock:
    """A clock that only work turns."""

    def __init__(self) -> None:
        self.ns = 1

    def perf_counter_ns(self) -> int:
        return self.ns

    def perf_counter(self) -> float:
        return self.ns / 1e9


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(loop_turns, "time", clock)
    return clock


class Requests:
    """Requests of tenants, each of which takes the loop for a while, in the order in which they were worked on."""

    def __init__(self, turns: LoopTurns, clock: Clock) -> None:
        self.order: list[str | None] = []
        self.waited: list[str | None] = []
        self._turns = turns
        self._clock = clock

    def come(self, tenant: str | None, ns: int, size: int = 0) -> asyncio.Task[None] | None:
        def work() -> None:
            self.order.append(tenant)
            self._clock.ns += ns

        if tenant == self._turns.alone or self._turns.may_go(tenant):
            work()
            return None
        self.waited.append(tenant)
        return asyncio.create_task(self._turns.in_turn(tenant, size, work))


def test_a_flood_waits_in_turns_and_a_quiet_tenant_goes_at_once(clock: Clock) -> None:
    async def work() -> None:
        requests = Requests(LoopTurns(Backlog(MIB)), clock)
        requests.come("quiet", 1)
        tasks = [requests.come("flood", loop_turns.AT_ONCE_NS // 4) for _ in range(40)]
        assert requests.order == ["quiet", *["flood"] * 4], "what it may have in a round, and no more"
        for number in range(1, 5):
            await asyncio.sleep(0)
            assert requests.come("quiet", 1) is None
            served = requests.order.count("flood")
            assert served <= 4 + number * (loop_turns.ROUND_NS // (loop_turns.AT_ONCE_NS // 4))
        assert requests.come("flood", 1) is not None, "behind what it has sent before"
        await asyncio.gather(*(task for task in tasks if task is not None))
        await until(lambda: requests.order.count("flood") == 41)
        assert "quiet" not in requests.waited

    run(work())


def test_two_that_flood_are_served_by_the_time_that_each_takes(clock: Clock) -> None:
    async def work() -> None:
        requests = Requests(LoopTurns(Backlog(MIB)), clock)
        for tenant in ("dear", "cheap"):
            requests.come(tenant, loop_turns.AT_ONCE_NS)
        tasks = []
        for _ in range(30):
            tasks += [requests.come("dear", 400_000), requests.come("cheap", 100_000)]
        while requests.order.count("cheap") <= 20:
            await asyncio.sleep(0)
        assert 4 <= requests.order.count("dear") <= 7, "a quarter as many, for each takes four times as long"
        await asyncio.gather(*(task for task in tasks if task is not None))
        assert requests.order.count("dear") == requests.order.count("cheap") == 31

    run(work())


def test_one_alone_is_never_held_up_and_one_more_ends_that(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop_turns, "ALONE_SECONDS", 0.01)

    async def work() -> None:
        turns = LoopTurns(Backlog(MIB))
        requests = Requests(turns, clock)
        assert requests.come(None, 1) is None
        await until(lambda: turns.alone is None)
        assert [requests.come(None, 10 * loop_turns.AT_ONCE_NS) for _ in range(20)] == [None] * 20
        assert requests.come("a", 1) is None
        assert turns.alone not in (None, "a")
        requests.come("a", 10 * loop_turns.AT_ONCE_NS)
        last = requests.come("a", 1)
        assert last is not None
        await last
        await until(lambda: turns.alone is None or turns.alone == "a" or not turns._watched)
        requests.come("a", 1)
        await until(lambda: turns.alone == "a")

    run(work())


def test_a_flood_that_fills_the_memory_is_refused_and_others_are_not(clock: Clock) -> None:
    async def work() -> None:
        turns = LoopTurns(Backlog(MIB))
        requests = Requests(turns, clock)
        requests.come("other", 1)
        waiting = Backlog.enter_bytes(turns._backlog, 1000, "other")
        requests.come("flood", loop_turns.AT_ONCE_NS)
        tasks = [task for _ in range(40) if (task := requests.come("flood", 1, MIB // 20)) is not None]
        found = await asyncio.gather(*tasks, return_exceptions=True)
        refused = [one for one in found if isinstance(one, QueueFull)]
        assert 0 < len(refused) < len(tasks)
        assert all(one.retry_after_s >= 1 for one in refused)
        assert requests.order.count("flood") == 1 + len(tasks) - len(refused)
        turns._backlog.leave(waiting, "other")
        assert turns._backlog.bytes == 0

    run(work())


def test_who_hangs_up_costs_nothing_and_an_error_is_for_whoever_asked(clock: Clock) -> None:
    async def work() -> None:
        turns = LoopTurns(Backlog(MIB))
        requests = Requests(turns, clock)
        requests.come("a", 1)
        requests.come("flood", loop_turns.AT_ONCE_NS)
        left, stays = (requests.come("flood", 1) for _ in range(2))
        assert left is not None and stays is not None
        failing = asyncio.create_task(turns.in_turn("flood", 0, lambda: 1 // 0))
        left.cancel()
        found = await asyncio.gather(left, stays, failing, return_exceptions=True)
        assert [type(one) for one in found] == [asyncio.CancelledError, type(None), ZeroDivisionError]
        assert requests.order == ["a", "flood", "flood"]
        assert turns._backlog.bytes == 0

    run(work())


def test_work_in_turn_is_done_in_the_context_of_its_own_request() -> None:
    async def work() -> None:
        turns = LoopTurns(Backlog(MIB))
        seen = []

        async def ask(trace: Trace) -> None:
            CURRENT.set(trace)
            seen.append((trace, await turns.in_turn("a", 0, CURRENT.get)))

        await asyncio.gather(*(ask(Trace(None, time.time_ns())) for _ in range(3)))
        assert all(own is found for own, found in seen)

    run(work())
