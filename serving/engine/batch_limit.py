"""How many rows one run may have, learned from how long runs took, so that answers keep a p99 objective.

A request that comes when a run has just begun waits for that run and then for its own. So the largest batch that keeps
the objective is the one of which two runs, each as slow as 99 of 100 are, fit into it; more requests than such runs can
answer in time are better turned away than answered late. Nothing here is to be set: the time of a run is taken as a
line in its rows through the latest runs, and how far runs stray above the line is measured with it. A few runs of each
size are kept however long ago they were: of many requests that come together after a quiet hour, the runs of that hour,
each on one row, do not tell what they take.
"""

import math
from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

REMEMBERED_RUNS = 100
"""Older ones say nothing of the machine as it is now, unless no others tell what so many rows take."""
KEPT_RUNS = 4
"""So many of each size are remembered however old they are; sizes go in steps of twice the rows."""
GROWTH = 2
"""A batch has at most so many times the rows of the largest one remembered: beyond it the line is a guess."""

FIRST_ROWS = 8
"""So many are tried once, by and by, whatever the first runs on few rows promise: they do not tell what a row costs."""
MAX_STRAY = 2
"""Runs that stray further are no reason for smaller batches, which would stray as far."""

_QUANTILE = 0.99
_DOUBT = 2
"""Standard errors that the slope is taken steeper than it was found."""


class RunTime(NamedTuple):
    """Seconds of a run by its rows."""

    base: float
    per_row: float
    smallest: int
    """Rows of the smallest run measured; smaller ones are taken to be no quicker."""
    stray: float
    """How many times longer than on the line a run may take: 99 of 100 did not take longer, nor did the latest, in
    which a machine that has become slower shows first; twice at most."""

    @classmethod
    def fit(cls, measured: Iterable[tuple[int, float]]) -> "RunTime":
        """Fit the line by least squares, as steep as it may well be; the less rows vary, the nearer to proportional.

        Args:
            measured: rows and seconds of runs, at least one, the latest last.
        """
        rows, seconds = zip(*measured, strict=True)
        mean_rows, mean_seconds = sum(rows) / len(rows), sum(seconds) / len(seconds)
        spread = sum((size - mean_rows) ** 2 for size in rows)
        per_row = mean_seconds / mean_rows
        if spread:
            apart = [(size - mean_rows, took - mean_seconds) for size, took in zip(rows, seconds, strict=True)]
            slope = sum(x * y for x, y in apart) / spread
            errors = sum((y - slope * x) ** 2 for x, y in apart)
            doubt = math.sqrt(errors / max(1, len(rows) - 2) / spread)
            per_row = min(max(slope + _DOUBT * doubt, 0.0), per_row)
        line = cls(mean_seconds - per_row * mean_rows, per_row, min(rows), 1.0)
        ratios = [took / line.seconds(size) for size, took in zip(rows, seconds, strict=True)]
        usual = sorted(ratios)[math.ceil(_QUANTILE * len(ratios)) - 1]
        return line._replace(stray=min(max(1.0, usual, ratios[-1]), MAX_STRAY))

    def seconds(self, rows: int) -> float:
        """The time of a run that 99 of 100 keep."""
        return self.stray * (self.base + self.per_row * max(rows, self.smallest))

    def most_rows(self, seconds: float) -> float:
        """Most rows of a run that takes no longer, infinite if rows are free; half the smallest if that is too slow."""
        if self.seconds(self.smallest) > seconds:
            return self.smallest / GROWTH
        return (seconds / self.stray - self.base) / self.per_row if self.per_row else math.inf


class BatchLimit:
    """What is known of one session's runs, and what follows for its batches."""

    def __init__(self, max_batch_size: int, seconds_per_run: float) -> None:
        """Take the most rows that the version may run at once, and the time of one run on one row."""
        self._max_batch_size = max_batch_size
        self._measured: list[tuple[int, float]] = []
        self._of_size = Counter[int]()
        self._tried = 1
        self._run_time: RunTime | None = None
        self.ran(1, seconds_per_run)

    def ran(self, rows: int, seconds: float) -> None:
        """Remember one run."""
        self._measured.append((rows, max(seconds, 1e-9)))
        self._of_size[_size(rows)] += 1
        if len(self._measured) > REMEMBERED_RUNS:
            self._forget_one()
        self._tried = max(self._tried, rows)
        self._run_time = None

    def rows(self, objective_seconds: float | None) -> int:
        """Return the rows that a batch may have: at least 1, and without an objective as many as the version may."""
        if objective_seconds is None:
            return self._max_batch_size
        first = min(GROWTH * self._tried, FIRST_ROWS) if self._tried < FIRST_ROWS else 1
        known = GROWTH * max(rows for rows, _ in self._measured)
        fitting = min(self._known().most_rows(objective_seconds / 2), known)
        return int(min(max(first, fitting), self._max_batch_size))

    def seconds(self, rows: int, limit: int) -> float:
        """Return how long it takes to run so many rows in batches of the limit, once the session is free.

        The last batch counts as full: others may come until it starts.
        """
        return math.ceil(rows / limit) * self._known().seconds(limit)

    def _forget_one(self) -> None:
        """Forget the oldest run of which there are enough of its size."""
        sizes = (_size(rows) for rows, _ in self._measured)
        oldest, size = next((at, size) for at, size in enumerate(sizes) if self._of_size[size] > KEPT_RUNS)
        del self._measured[oldest]
        self._of_size[size] -= 1

    def _known(self) -> RunTime:
        if self._run_time is None:
            self._run_time = RunTime.fit(self._measured)
        return self._run_time


def _size(rows: int) -> int:
    """Number the steps of twice the rows: 1, 2 to 3, 4 to 7."""
    return rows.bit_length()
