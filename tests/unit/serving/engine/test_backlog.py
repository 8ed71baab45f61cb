"""What a worker holds is bounded by bytes, and who is turned away hears for how long."""

import numpy as np
import pytest

from registry.errors import QueueFull, TransientError
from serving.engine import backlog
from serving.engine.backlog import MAX_RETRY_SECONDS, Backlog, Drain
from serving.runtime import Arrays

MIB = 2**20


class Clock:
    """A clock that tests turn."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def perf_counter_ns(self) -> int:
        return int(1e9 * self.seconds)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(backlog, "time", clock)
    return clock


def mib(size: int) -> Arrays:
    return {"x": np.zeros(size * MIB, np.uint8)}


def test_the_time_to_come_again_follows_from_what_left_per_second(clock: Clock) -> None:
    drain = Drain()
    assert drain.retry_after_s(1000) == 1, "nothing is known yet"
    clock.seconds = 100
    drain.begin()
    for _ in range(20):
        clock.seconds += 0.5
        drain.left(2)
    assert drain.retry_after_s(1) == 1
    assert drain.retry_after_s(40) == 10
    assert drain.retry_after_s(41) == 11
    assert drain.retry_after_s(10**6) == MAX_RETRY_SECONDS
    clock.seconds += 1000
    drain.begin()
    assert drain.retry_after_s(40) == 10, "the time in which nothing waited does not count"


def test_a_full_worker_turns_away_until_something_left(clock: Clock) -> None:
    full = Backlog(10 * MIB)
    held = [full.enter(mib(3)) for _ in range(3)]
    with pytest.raises(TransientError, match="as many as they may") as refused:
        full.enter(mib(3))
    assert refused.value.retry_after_s == 1
    clock.seconds += 30
    full.leave(held.pop())
    held.append(full.enter(mib(3)))
    with pytest.raises(TransientError) as refused:
        full.enter(mib(3))
    assert refused.value.retry_after_s == MAX_RETRY_SECONDS
    for size in held:
        full.leave(size)
    assert full.bytes == 0


def test_a_request_larger_than_the_bound_goes_alone() -> None:
    small = Backlog(MIB)
    size = small.enter(mib(5))
    with pytest.raises(TransientError):
        small.enter({})
    small.leave(size)
    small.leave(small.enter(mib(5)))
    assert small.bytes == 0


def test_a_view_counts_as_all_that_it_keeps_and_that_but_once() -> None:
    room = Backlog(100 * MIB)
    least = room.enter({})
    body = bytes(3 * MIB)
    few: Arrays = {name: np.frombuffer(memoryview(body)[:8], np.float32).reshape(2, 1) for name in ("x", "y")}
    assert room.enter(few) == least + 3 * MIB
    batch = np.zeros((MIB, 1), np.uint8)
    assert room.enter({"x": batch[:1], "y": batch[1:2]}) == least + MIB
    assert room.enter({"x": np.array([b"text"], object)}) > least + len(b"text")


def test_the_tenant_that_floods_is_turned_away_and_the_quiet_one_is_not() -> None:
    room = Backlog(100 * MIB)
    quiet = room.enter(mib(1), "quiet")
    held = []
    with pytest.raises(QueueFull, match="this tenant hold its share") as refused:
        for _ in range(100):
            held.append(room.enter(mib(1), "flood"))
    assert refused.value.retry_after_s >= 1
    assert 60 < len(held) < 80
    more = [room.enter(mib(1), "quiet") for _ in range(10)]
    newcomer = room.enter(mib(50), "new")
    with pytest.raises(TransientError, match="as many as they may"):
        room.enter({}, "quiet")
    for tenant, sizes in (("flood", held), ("quiet", [quiet, *more]), ("new", [newcomer])):
        for size in sizes:
            room.leave(size, tenant)
    assert room.bytes == 0
