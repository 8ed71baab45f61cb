"""Runs on the loop: which requests share one, what is learned from how long they took, who is harmed by a failure."""

from collections.abc import Sequence

import pytest

from registry.errors import CandidateError
from serving.engine import quick_runs
from serving.engine.quick_runs import INLINE_SECONDS, Outcome, QuickRuns
from serving.engine.statistics import Statistics
from serving.runtime import Arrays
from tests.unit.serving.engine.batching import rows

_NS = int(1e9 * INLINE_SECONDS)


class Computing:
    """Answers each request with itself, in a time that the test sets; a request with a negative number fails."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.ns = 0
        self.took = 1
        self.runs: list[list[int]] = []
        monkeypatch.setattr(quick_runs, "time", self)

    def perf_counter_ns(self) -> int:
        return self.ns

    def __call__(self, requests: Sequence[Arrays], sizes: Sequence[int]) -> list[Arrays]:
        self.ns += self.took
        self.runs.append(list(sizes))
        if any(min(request["x"].reshape(-1).tolist()) < 0 for request in requests):
            raise CandidateError("negative")
        return list(requests)


@pytest.fixture
def computing(monkeypatch: pytest.MonkeyPatch) -> Computing:
    return Computing(monkeypatch)


def ask(runs: QuickRuns, *sizes: int) -> list[Outcome | None]:
    return runs.run([rows(*[1.0] * size) for size in sizes], sizes)


def test_what_comes_together_shares_runs_as_large_as_may_be_and_what_is_too_large_is_left(computing: Computing) -> None:
    runs = QuickRuns(computing, 3, 100, Statistics())
    computing.took = _NS
    found = ask(runs, 2, 1, 4, 1, 1, 3)
    assert computing.runs == [[2, 1], [1, 1], [3]]
    assert [len(one["x"]) if isinstance(one, dict) else one for one in found] == [2, 1, None, 1, 1, 3]


def test_requests_that_may_not_share_run_alone(computing: Computing) -> None:
    ask(QuickRuns(computing, 3, 0, Statistics()), 1, 1, 2)
    assert computing.runs == [[1], [1], [2]]


def test_runs_grow_while_they_are_quick_up_to_what_may_be_shared_and_shrink_when_they_are_not(
    computing: Computing,
) -> None:
    runs = QuickRuns(computing, 2, 10, Statistics())

    def largest() -> int:
        computing.runs.clear()
        ask(runs, *[1] * 20)
        return max(map(sum, computing.runs))

    computing.took = _NS // 2 - 1
    assert [largest() for _ in range(4)] == [2, 4, 8, 10]
    computing.took = _NS
    assert largest() == 10, "as quick as is wanted"
    computing.took = _NS + 1
    assert [largest() for _ in range(4)] == [10, 5, 2, 2], "never below what one request may have"


def test_the_one_to_blame_for_a_failure_harms_no_other_and_every_run_is_counted(computing: Computing) -> None:
    statistics = Statistics()
    runs = QuickRuns(computing, 4, 4, statistics)
    found = runs.run([rows(1), rows(-1), rows(2)], [1, 1, 1])
    assert computing.runs == [[1, 1, 1], [1], [1], [1]]
    assert [isinstance(one, CandidateError) for one in found] == [False, True, False]
    assert (statistics.executions, statistics.compute.count) == (2, 2)
    ask(runs, 1, 1)
    assert statistics.batches[2].count == 1
    assert statistics.compute.count == 4
    assert statistics.account.compute_ns == statistics.batches[1].ns + statistics.batches[2].ns
