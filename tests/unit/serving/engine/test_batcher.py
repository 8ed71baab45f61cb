"""Batching while busy: who shares a run, who waits, who is turned away, who leaves."""

import asyncio
import time

import pytest

from registry.errors import CandidateError, DeadlineExceeded, InputError, QueueFull
from registry.records.release import ServingPolicy
from serving.engine.batcher import Batcher, BatchLimits
from serving.engine.infer import contain
from serving.engine.runs import RunThreads
from serving.engine.statistics import Statistics
from serving.engine.urgency import ROUTINE, Urgency
from serving.runtime import Arrays
from tests.unit.serving.engine.batching import limits, rows
from tests.unit.serving.engine.doubles import FakeSession, run, until


class Busy:
    """A batcher whose session is held up in a first run, so that everything after it waits."""

    def __init__(self, threads: RunThreads, rule: BatchLimits) -> None:
        self.session = FakeSession(scale=10)
        self.statistics = Statistics()
        self.policy = ServingPolicy()
        self.batcher = Batcher(self.session, rule, contain, threads, self.statistics, lambda: self.policy)

    async def __aenter__(self) -> "Busy":
        self.session.may_run.clear()
        self.first = asyncio.create_task(self.batcher.submit(rows(0), 1))
        await until(self.session.running.is_set)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.session.may_run.set()
        await self.first

    async def send(self, *values: float, width: int = 2, urgency: Urgency = ROUTINE) -> asyncio.Task[Arrays]:
        task = asyncio.create_task(self.batcher.submit(rows(*values, width=width), len(values), urgency))
        await asyncio.sleep(0)
        return task


def test_what_arrives_during_a_run_shares_the_next(threads: RunThreads) -> None:
    async def work() -> None:
        async with Busy(threads, limits()) as busy:
            tasks = [await busy.send(1), await busy.send(2, 3), await busy.send(4)]
        answers = [(await task)["y"][:, 0].tolist() for task in tasks]
        assert answers == [[10], [20, 30], [40]]
        assert busy.session.shapes == [(1, 2), (4, 2)]

    run(work())


def test_a_batch_takes_no_more_rows_than_the_limit_and_a_larger_request_runs_alone(
    threads: RunThreads,
) -> None:
    async def work() -> None:
        async with Busy(threads, limits()) as busy:
            tasks = [await busy.send(*[float(n)] * size) for n, size in enumerate([3, 2, 1, 6, 2])]
        for number, task in enumerate(tasks):
            assert set((await task)["y"][:, 0].tolist()) == {10.0 * number}
        assert busy.session.shapes[1:] == [(4, 2), (4, 2), (6, 2)]

    run(work())


def test_other_shapes_wait_for_their_own_batch(threads: RunThreads) -> None:
    async def work() -> None:
        async with Busy(threads, limits()) as busy:
            tasks = [await busy.send(n, width=width) for n, width in [(1, 2), (2, 5), (3, 2), (4, 5)]]
        assert [(await task)["y"].shape for task in tasks] == [(1, 2), (1, 5), (1, 2), (1, 5)]
        assert busy.session.shapes[1:] == [(2, 2), (2, 5)]

    run(work())


def test_a_version_that_is_not_batch_invariant_runs_requests_one_by_one(threads: RunThreads) -> None:
    async def work() -> None:
        async with Busy(threads, limits(together=False)) as busy:
            tasks = [await busy.send(n) for n in (1, 2, 3)]
        assert [(await task)["y"][0, 0] for task in tasks] == [10, 20, 30]
        assert busy.session.shapes == [(1, 2)] * 4

    run(work())


def test_a_full_queue_turns_away_and_takes_again_when_there_is_room(threads: RunThreads) -> None:
    async def work() -> None:
        async with Busy(threads, limits(max_waiting=2)) as busy:
            tasks = [await busy.send(1), await busy.send(2)]
            with pytest.raises(QueueFull, match="2 requests wait") as refused:
                await busy.batcher.submit(rows(3), 1)
            assert refused.value.retry_after_s >= 1
        for task in tasks:
            await task
        assert (await busy.batcher.submit(rows(4), 1))["y"][0, 0] == 40

    run(work())


def test_the_policy_in_force_says_how_many_may_wait(threads: RunThreads) -> None:
    async def work() -> None:
        async with Busy(threads, limits(max_waiting=1)) as busy:
            busy.policy = ServingPolicy(max_waiting=3)
            tasks = [await busy.send(n) for n in (1, 2, 3)]
            busy.policy = ServingPolicy(max_waiting=2)
            with pytest.raises(QueueFull):
                await busy.batcher.submit(rows(4), 1)
        assert [(await task)["y"][0, 0] for task in tasks] == [10, 20, 30]

    run(work())


def test_more_than_can_be_answered_within_the_objective_is_turned_away_and_less_is_not(threads: RunThreads) -> None:
    async def work() -> None:
        async with Busy(threads, limits()) as busy:
            busy.policy = ServingPolicy(latency_objective_ms=0.001)
            only = await busy.send(1)
            with pytest.raises(
                QueueFull, match="1 requests wait for this version, all that it can answer within its obj"
            ):
                await busy.batcher.submit(rows(2), 1)
            busy.policy = ServingPolicy(latency_objective_ms=10**6)
            more = await busy.send(2)
            busy.policy = ServingPolicy(latency_objective_ms=0.001)
        assert [(await task)["y"][0, 0] for task in (only, more)] == [10, 20]
        assert busy.session.shapes == [(1, 2), (2, 2)]

    run(work())


def test_the_more_urgent_run_first(threads: RunThreads) -> None:
    async def work() -> None:
        done: list[float] = []
        async with Busy(threads, limits(together=False)) as busy:
            for number, priority in enumerate((5, 9, 1)):
                task = await busy.send(number, urgency=Urgency(priority))
                task.add_done_callback(lambda task: done.append(task.result()["y"][0, 0]))
        await until(lambda: len(done) == 3)
        assert done == [20, 0, 10]

    run(work())


def test_a_request_whose_time_is_over_before_its_run_is_not_run(threads: RunThreads) -> None:
    async def work() -> None:
        async with Busy(threads, limits()) as busy:
            late = await busy.send(1, urgency=Urgency(deadline_ns=time.perf_counter_ns()))
            well = await busy.send(2, urgency=Urgency(deadline_ns=time.perf_counter_ns() + 10**12))
        with pytest.raises(DeadlineExceeded, match="before its run started"):
            await late
        assert (await well)["y"][0, 0] == 20
        assert busy.session.shapes == [(1, 2), (1, 2)]

    run(work())


def test_a_cancelled_request_leaves_the_queue(threads: RunThreads) -> None:
    async def work() -> None:
        async with Busy(threads, limits(max_waiting=2)) as busy:
            leaving, staying = await busy.send(1), await busy.send(2)
            leaving.cancel()
            with pytest.raises(asyncio.CancelledError):
                await leaving
            third = await busy.send(3)
        assert [(await task)["y"][0, 0] for task in (staying, third)] == [20, 30]
        assert busy.session.shapes == [(1, 2), (2, 2)]

    run(work())


def test_a_request_cancelled_in_its_run_does_not_harm_its_mates(threads: RunThreads) -> None:
    async def work() -> None:
        busy = Busy(threads, limits())
        async with busy:
            busy.first.cancel()
            mate = await busy.send(2)
            with pytest.raises(asyncio.CancelledError):
                await busy.first
            busy.first = mate
        assert (await mate)["y"][0, 0] == 20
        await busy.batcher.finished()

    run(work())


def test_a_failing_batch_fails_its_requests_and_no_others(threads: RunThreads) -> None:
    async def work() -> None:
        async with Busy(threads, limits()) as busy:
            pass
        busy.session.broken = True
        failed = await asyncio.gather(*(busy.batcher.submit(rows(n), 1) for n in (1, 2)), return_exceptions=True)
        assert [str(error) for error in failed] == ["ZeroDivisionError: broken on purpose"] * 2
        busy.session.broken = False
        assert (await busy.batcher.submit(rows(3), 1))["y"][0, 0] == 30

    run(work())


def test_a_poisoned_request_harms_no_other_of_its_batch(threads: RunThreads) -> None:
    class Poisoned(FakeSession):
        def run(self, inputs: Arrays) -> Arrays:  # type: ignore[override]
            if (inputs["x"] == 2).any():
                raise ZeroDivisionError("poisoned")
            return super().run(inputs)

    async def work() -> None:
        statistics = Statistics()
        batcher = Batcher(Poisoned(), limits(), contain, threads, statistics)
        found = await asyncio.gather(*(batcher.submit(rows(n), 1) for n in (1, 2, 3)), return_exceptions=True)
        assert isinstance(found[1], CandidateError)
        assert [answer["y"][0, 0] for answer in (found[0], found[2]) if isinstance(answer, dict)] == [1, 3]
        assert {size: batch.count for size, batch in statistics.batches.items()} == {1: 2}
        assert statistics.queue.count == 3, "who runs again alone has waited but once"

    run(work())


def test_values_that_the_model_does_not_take_are_the_requests_fault(threads: RunThreads) -> None:
    class Choosy(FakeSession):
        value_errors = (IndexError,)

        def run(self, inputs: Arrays) -> Arrays:  # type: ignore[override]
            if (inputs["x"] == 2).any():
                raise IndexError("2 is too much")
            return super().run(inputs)

    async def work() -> None:
        batcher = Batcher(Choosy(), limits(), contain, threads, Statistics())
        found = await asyncio.gather(*(batcher.submit(rows(n), 1) for n in (1, 2, 3)), return_exceptions=True)
        assert isinstance(found[1], InputError)
        assert str(found[1]) == "inputs: the model does not take these values or sizes: IndexError: 2 is too much"
        assert [answer["y"][0, 0] for answer in (found[0], found[2]) if isinstance(answer, dict)] == [1, 3]

    run(work())


def test_a_session_that_loses_rows_runs_its_requests_alone(threads: RunThreads) -> None:
    class Losing(FakeSession):
        def run(self, inputs: Arrays) -> Arrays:  # type: ignore[override]
            return {"y": inputs["x"][:1]}

    async def work() -> None:
        batcher = Batcher(Losing(), limits(), contain, threads, Statistics())
        found = await asyncio.gather(*(batcher.submit(rows(n), 1) for n in (1, 2, 3)))
        assert [answer["y"][0, 0] for answer in found] == [1, 2, 3]

    run(work())


def test_runs_and_waits_are_counted(threads: RunThreads) -> None:
    async def work() -> None:
        async with Busy(threads, limits()) as busy:
            tasks = [await busy.send(1), await busy.send(2, 3)]
        await asyncio.gather(*tasks)
        counted = busy.statistics
        assert {size: batch.count for size, batch in counted.batches.items()} == {1: 1, 3: 1}
        assert (counted.executions, counted.queue.count, counted.compute.count) == (2, 3, 3)
        assert counted.queue.ns > 0
        assert counted.compute.ns == counted.batches[1].ns + 2 * counted.batches[3].ns

    run(work())
