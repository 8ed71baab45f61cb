"""Turns: who runs when, on what, and when it ends."""

import gc
import time
from itertools import pairwise

import numpy as np

from serving.runtime import Array
from tasks.bench.measure import ENOUGH_ROUNDS, MAX_CALLS_A_TURN, MIN_ROUNDS, Plan, interleaved, measured_batch_sizes
from tests.unit.tasks.gates.sessions import ArraySession, dense, dense_signature

X = np.arange(800, dtype=np.float32).reshape(100, 8)
QUICK = Plan(batch_sizes=(1, 4), seconds_cap=0.0)


def sessions(*names: str) -> dict[str, ArraySession]:
    return {name: ArraySession(dense) for name in names}


def test_every_session_is_measured_in_every_round() -> None:
    turns: list[str] = []
    series = interleaved(sessions("a", "b", "c"), {"x": X}, QUICK, turns.append)
    assert [one.batch_size for one in series] == [1, 4]
    for one in series:
        assert {len(times) for times in one.latency_ms.values()} == {MIN_ROUNDS}
        assert all((times > 0).all() for times in one.latency_ms.values())
    rounds = [turns[start : start + 3] for start in range(0, len(turns), 3)]
    assert all(sorted(order) == ["a", "b", "c"] for order in rounds)
    assert len({tuple(order) for order in rounds}) > 1, "the order never changed"


def test_batches_have_the_size_asked_and_are_the_same_for_all() -> None:
    seen: dict[str, list[Array]] = {"a": [], "b": []}

    def remembering(name: str) -> ArraySession:
        def function(x: Array) -> Array:
            seen[name].append(x)
            return dense(x)

        return ArraySession(function)

    interleaved({name: remembering(name) for name in seen}, {"x": X}, QUICK, lambda _: None)
    assert {len(batch) for batch in seen["a"]} == {1, 4}
    distinct = [{batch.tobytes() for batch in batches} for batches in seen.values()]
    assert distinct[0] == distinct[1]
    assert len(distinct[0]) > 8, "the inputs never changed"


def test_the_seed_fixes_order_and_inputs() -> None:
    orders = []
    for _ in range(2):
        turns: list[str] = []
        interleaved(sessions("a", "b"), {"x": X}, QUICK, turns.append)
        orders.append(turns)
    assert orders[0] == orders[1]


def test_slow_sessions_have_one_call_a_turn_and_quick_ones_many() -> None:
    def slow(x: Array) -> Array:
        time.sleep(0.012)
        return dense(x)

    pair = {"slow": ArraySession(slow), "quick": ArraySession(lambda x: x)}
    (series,) = interleaved(pair, {"x": X}, Plan(batch_sizes=(1,), seconds_cap=0.0), lambda _: None)
    assert series.latency_ms["slow"].shape == (MIN_ROUNDS, 1)
    assert series.latency_ms["quick"].shape[1] > 10
    assert series.latency_ms["quick"].shape[1] <= MAX_CALLS_A_TURN


def test_a_precise_measurement_ends_before_the_time_is_spent() -> None:
    plan = Plan(batch_sizes=(1,), seconds_cap=600, half_width=1.0)
    (series,) = interleaved(sessions("a"), {"x": X}, plan, lambda _: None)
    assert len(series.latency_ms["a"]) == ENOUGH_ROUNDS


def test_time_ends_a_measurement_that_is_not_precise() -> None:
    plan = Plan(batch_sizes=(1,), seconds_cap=0.5, half_width=1e-9)
    (series,) = interleaved(sessions("a"), {"x": X}, plan, lambda _: None)
    assert len(series.latency_ms["a"]) >= MIN_ROUNDS


def test_the_collector_is_off_during_calls_and_on_again_after() -> None:
    states: list[bool] = []

    def looking(x: Array) -> Array:
        states.append(gc.isenabled())
        return x

    interleaved({"a": ArraySession(looking)}, {"x": X}, Plan(batch_sizes=(1,), seconds_cap=0), lambda _: None)
    assert gc.isenabled()
    switches = [after for before, after in pairwise(states) if before != after]
    assert switches.count(False) == MIN_ROUNDS, "every turn times its calls with the collector off"


def test_few_samples_fill_a_large_batch() -> None:
    (series,) = interleaved(sessions("a"), {"x": X[:3]}, Plan(batch_sizes=(16,), seconds_cap=0), lambda _: None)
    assert series.batch_size == 16


def test_a_fixed_batch_is_the_only_size() -> None:
    assert measured_batch_sizes(dense_signature(), (1, 8)) == (1, 8)
    assert measured_batch_sizes(dense_signature(batch=4), (1, 8)) == (4,)
