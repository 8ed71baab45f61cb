"""The batch limit that is learned: bounds that always hold, the largest that keeps the objective, and a simulation."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.records.release import ServingPolicy
from serving.engine.batch_limit import GROWTH, REMEMBERED_RUNS, BatchLimit, RunTime
from serving.engine.batcher import BatchLimits
from tests.unit.serving.engine.simulated import Outcome, Phase, simulate

Runs = st.lists(st.tuples(st.integers(1, 64), st.floats(0, 10)), min_size=1, max_size=150)
Objectives = st.floats(1e-4, 100)


def learned(runs: list[tuple[int, float]], seconds_per_run: float = 0.001) -> BatchLimit:
    limit = BatchLimit(64, seconds_per_run)
    for rows, seconds in runs:
        limit.ran(rows, seconds)
    return limit


@given(Runs, Objectives, Objectives)
def test_the_limit_keeps_its_bounds_and_grows_with_the_objective(
    runs: list[tuple[int, float]], one: float, other: float
) -> None:
    limit = learned(runs)
    less, more = sorted((one, other))
    assert 1 <= limit.rows(less) <= limit.rows(more) <= limit.rows(None) == 64
    assert limit.rows(more) <= GROWTH * max([1, *(rows for rows, _ in runs)])


@given(Runs, st.integers(1, 200), st.integers(1, 64))
def test_the_predicted_time_is_one_of_whole_batches(runs: list[tuple[int, float]], rows: int, limit: int) -> None:
    known = learned(runs)
    assert 0 < known.seconds(rows, limit) <= known.seconds(rows + 1, limit)
    assert known.seconds(limit, limit) == known.seconds(1, limit)
    assert known.seconds(limit + 1, limit) == pytest.approx(2 * known.seconds(1, limit))


@given(st.floats(0, 0.1), st.floats(1e-4, 0.01), st.floats(0.01, 2), st.integers(20, 64))
def test_of_runs_on_a_line_the_largest_of_which_two_keep_the_objective_is_found(
    base: float, per_row: float, objective: float, largest: int
) -> None:
    def seconds(rows: int) -> float:
        return base + per_row * rows

    limit = learned([(rows, seconds(rows)) for rows in range(2, largest + 1)], seconds(1))
    rows = limit.rows(objective)
    assert rows == 1 or 2 * seconds(rows) <= objective * (1 + 1e-6)
    assert rows in (64, GROWTH * largest) or 2 * seconds(rows + 1) > objective * (1 - 1e-6)


def test_one_run_in_a_hundred_may_stall_and_a_slower_machine_shows_in_its_first_run() -> None:
    steady = [(10, 0.010), (20, 0.020)] * (REMEMBERED_RUNS // 2)
    calm = learned(steady).rows(0.040)
    stalled = learned([*steady[:50], (10, 1.0), *steady[51:]])
    assert stalled.rows(0.040) > calm / 3
    slower = learned([*steady, (20, 0.040)])
    assert slower.rows(0.040) <= calm / 2 + 1
    assert learned([*steady, (20, 0.040), *steady]).rows(0.040) == calm, "what is long past is forgotten"


def test_a_few_rows_are_tried_once_even_if_one_row_alone_seems_too_slow() -> None:
    limit, tried = learned([(1, 0.02)] * 5, 0.02), []
    for _ in range(8):
        tried.append(limit.rows(0.05))
        limit.ran(tried[-1], 0.02 + 0.0001 * tried[-1])
    assert tried[:3] == [2, 4, 8]
    assert tried[3] > 8
    slow = learned([(1, 0.02), (2, 0.04), (4, 0.08), (8, 0.16)], 0.02)
    assert slow.rows(0.05) == 1


def test_a_quiet_time_does_not_make_it_forget_what_a_row_costs() -> None:
    def seconds(rows: int) -> float:
        return 0.002 + 0.00005 * rows

    limit = learned([(rows, seconds(rows)) for rows in (1, 2, 4, 8, 16, 32)] + [(1, seconds(1))] * 10 * REMEMBERED_RUNS)
    assert limit.rows(0.02) == 64
    assert limit.seconds(32, 64) == pytest.approx(seconds(64), rel=0.01)
    slower = learned([(32, seconds(32)), *[(32, 2 * seconds(32))] * REMEMBERED_RUNS])
    assert slower.seconds(32, 32) == pytest.approx(2 * seconds(32), rel=0.01), "newer ones replace it"


def test_equal_runs_say_nothing_of_what_a_row_costs() -> None:
    run_time = RunTime.fit([(8, 0.08)] * 10)
    assert run_time.seconds(16) == pytest.approx(0.16)
    assert run_time.seconds(2) == pytest.approx(0.08)


OBJECTIVE_SECONDS = 0.2
SCENARIOS = {
    "more requests": [Phase(10, 40), Phase(10, 300), Phase(10, 100)],
    "larger requests": [Phase(10, 250), Phase(10, 60, rows=4)],
    "a slower machine": [Phase(15, 170), Phase(15, 170, slowness=2), Phase(15, 170)],
}
NEAR = [(4, 4), (8, 4), (12, 12), (16, 16)]
ALL = [(rows, waiting) for rows in (2, 4, 6, 8, 12, 16, 24) for waiting in (2, 3, 4, 6, 8, 12, 16, 24)]


def seconds_of(rows: int) -> float:
    return 0.02 + 0.005 * rows


def static(rows: int, waiting: int) -> BatchLimits:
    return BatchLimits(
        together=True, max_batch_size=rows, inline_rows=0, seconds_per_run=seconds_of(1), max_waiting=waiting
    )


@pytest.mark.parametrize("settings", [NEAR, pytest.param(ALL, marks=pytest.mark.slow)], ids=["near", "all"])
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_under_step_load_the_objective_is_kept_and_no_static_setting_that_keeps_it_answers_more(
    scenario: str, settings: list[tuple[int, int]]
) -> None:
    def simulated(setting: BatchLimits, objective: float | None) -> Outcome:
        milliseconds = None if objective is None else 1000 * objective
        policy = ServingPolicy(latency_objective_ms=milliseconds)
        return simulate(SCENARIOS[scenario], seconds_of, setting, policy)

    outcome = simulated(static(256, 10_000), OBJECTIVE_SECONDS)
    assert outcome.p99 <= OBJECTIVE_SECONDS
    assert outcome.refused > 0, "the load is more than can be answered"
    others = [simulated(static(*setting), None) for setting in settings]
    kept = [other.rows for other in others if other.p99 <= OBJECTIVE_SECONDS]
    assert 0 < len(kept) < len(others)
    assert outcome.rows > max(kept)
