"""The line before a session: priority, then arrival; nobody starves; nobody runs after his time."""

import asyncio
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.errors import DeadlineExceeded
from serving.engine.queue import OLDEST_LEADS, RequestQueue, Waiting
from serving.engine.urgency import DEFAULT_PRIORITY, Urgency
from tests.unit.serving.engine.doubles import run


def request(priority: int = DEFAULT_PRIORITY, rows: int = 1, width: int = 1, deadline_ns: int | None = None) -> Waiting:
    future = asyncio.get_running_loop().create_future()
    return Waiting({"x": np.zeros((rows, width), np.float32)}, rows, future, Urgency(priority, deadline_ns))


def test_the_more_urgent_go_first_and_equals_in_order_of_arrival() -> None:
    async def work() -> None:
        queue = RequestQueue()
        arrived = [request(priority) for priority in (5, 1, 9, 1, 5)]
        for waiting in arrived:
            queue.add(waiting)
        assert queue.before(5) == [arrived[1], arrived[3], arrived[0], arrived[4]]
        taken = [queue.take(1, together=True)[0] for _ in arrived]
        assert taken == [arrived[number] for number in (1, 3, 0, 4, 2)]

    run(work())


def test_a_request_of_low_priority_is_passed_by_a_bounded_number_of_batches() -> None:
    async def work() -> None:
        queue = RequestQueue()
        last = request(priority=1000)
        queue.add(last)
        leaders = []
        for _ in range(OLDEST_LEADS):
            queue.add(request(priority=1))
            leaders += queue.take(1, together=True)
        assert leaders.index(last) == OLDEST_LEADS - 1

    run(work())


def test_who_is_gone_or_too_late_is_not_run_and_the_late_are_told() -> None:
    async def work() -> None:
        queue = RequestQueue()
        gone, late, well = request(), request(deadline_ns=time.perf_counter_ns() - 1), request()
        for waiting in (gone, late, well):
            queue.add(waiting)
        gone.future.cancel()
        assert queue.take(8, together=True) == [well]
        with pytest.raises(DeadlineExceeded):
            late.future.result()
        assert queue.take(8, together=True) == []

    run(work())


Arrivals = st.lists(st.tuples(st.integers(1, 3), st.integers(1, 6), st.integers(1, 2)), max_size=40)


@given(Arrivals, st.integers(1, 8), st.booleans(), st.data())
def test_every_request_is_in_one_batch_and_batches_keep_their_bounds(
    arrivals: list[tuple[int, int, int]], max_rows: int, together: bool, data: st.DataObject
) -> None:
    async def work() -> None:
        queue = RequestQueue()
        waiting = [request(*arrival) for arrival in arrivals]
        for one in waiting:
            queue.add(one)
        removed = data.draw(st.sets(st.sampled_from(range(len(waiting)))) if waiting else st.just(set()))
        for number in removed:
            queue.discard(waiting[number])
            queue.discard(waiting[number])
        taken: list[Waiting] = []
        while batch := queue.take(max_rows, together=together):
            assert len({one.shapes for one in batch}) == 1
            assert len(batch) == 1 or (together and sum(one.rows for one in batch) <= max_rows)
            taken += batch
        assert len(queue) == 0
        assert {id(one) for one in taken} == {id(one) for n, one in enumerate(waiting) if n not in removed}
        assert len(taken) == len(waiting) - len(removed)

    asyncio.run(work())
