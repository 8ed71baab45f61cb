"""Runs that are quicker than a hop to a thread, on the loop; how limits follow from what was measured."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import closing
from typing import Any
from unittest.mock import patch

from serving.engine.batcher import Batcher, BatchLimits
from serving.engine.infer import contain
from serving.engine.runs import RunThreads
from serving.engine.statistics import Statistics
from tests.unit.serving.engine.batching import limits, rows
from tests.unit.serving.engine.doubles import VARYING, FakeSession, run, served, until


def test_quick_sessions_run_on_the_loop_but_never_beside_a_running_batch() -> None:
    async def work() -> None:
        with closing(RunThreads(1)) as threads:
            session = FakeSession()
            batcher = Batcher(session, limits(inline_rows=2), contain, threads, Statistics())
            assert batcher.run_now([rows(1, 2, 3)], [3]) == [None]
            assert batcher.run_now([rows(1, 2)], [2]) != [None]
            session.running.clear()
            session.may_run.clear()
            large = asyncio.create_task(batcher.submit(rows(1, 2, 3), 3))
            await until(session.running.is_set)
            assert batcher.run_now([rows(1)], [1]) == [None]
            small = asyncio.create_task(batcher.submit(rows(1), 1))
            await asyncio.sleep(0)
            assert session.shapes == [(2, 2)]
            session.may_run.set()
            await asyncio.gather(large, small)
            assert session.shapes == [(2, 2), (3, 2), (1, 2)]

    run(work())


def test_a_quick_batch_leaves_the_threads_and_so_does_what_comes_after_it(threads: RunThreads) -> None:
    hops = 0

    async def counted(*work: Any, hop: Callable[..., Awaitable[Any]] = threads.run) -> Any:  # noqa: ANN401
        nonlocal hops
        hops += 1
        return await hop(*work)

    async def work() -> None:
        session = FakeSession()
        batcher = Batcher(session, limits(inline_rows=2), contain, threads, Statistics())
        session.may_run.clear()
        waiting = [asyncio.create_task(batcher.submit(rows(1, 2, 3), 3))]
        await until(session.running.is_set)
        waiting += [asyncio.create_task(batcher.submit(rows(value), 1)) for value in (4, 5)]
        await asyncio.sleep(0)
        session.may_run.set()
        answers = [(await task)["y"][:, 0].tolist() for task in waiting]
        assert answers == [[1, 2, 3], [4], [5]]
        assert session.shapes == [(3, 2), (2, 2)]
        assert hops == 1
        assert batcher.run_now([rows(6)], [1]) != [None]

    with patch.object(threads, "run", counted):
        run(work())


def test_batches_on_the_loop_let_other_work_in_between(threads: RunThreads) -> None:
    async def work() -> None:
        session = FakeSession()
        batcher = Batcher(session, limits(together=False, inline_rows=2), contain, threads, Statistics())
        waiting = [asyncio.create_task(batcher.submit(rows(value), 1)) for value in (1, 2, 3)]
        seen = []
        while not all(task.done() for task in waiting):
            seen.append(len(session.shapes))
            await asyncio.sleep(0)
        assert {1, 2, 3} <= set(seen)

    run(work())


def test_limits_follow_from_the_version_and_the_measured_run() -> None:
    assert BatchLimits.of(served(1), 0.00009, 7) == BatchLimits(
        together=True, max_batch_size=4, inline_rows=3, seconds_per_run=0.00009, max_waiting=7
    )
    assert BatchLimits.of(served(1), 0.01, 7).inline_rows == 0
    assert not BatchLimits.of(served(1, invariant=False), 0.01, 7).together
    varying = BatchLimits.of(served(1, signature=VARYING), 0.0001, 7)
    assert varying.inline_rows == 0, "the cost of other sizes is not known from one row"
