"""Runs on the event loop itself: of sessions that are quicker than a hop to a thread and back.

Requests that came together share them: a small network takes hardly longer on ten rows than on one.
"""

import time
from collections.abc import Callable, Sequence

from registry.errors import BurnishError
from serving.engine.statistics import Statistics
from serving.runtime import Arrays

INLINE_SECONDS = 0.0003
"""Runs shorter than a hop to a thread and back are done on the loop itself."""

Outcome = Arrays | BurnishError
"""Of a request in a run: its outputs, or why there are none."""

_INLINE_NS = int(1e9 * INLINE_SECONDS)


class QuickRuns:
    """The runs of one session that are done at once."""

    def __init__(
        self,
        compute: Callable[[Sequence[Arrays], Sequence[int]], list[Arrays]],
        inline_rows: int,
        shared_rows: int,
        statistics: Statistics,
    ) -> None:
        """Take what runs requests, of so many rows each, and where runs are counted.

        Args:
            compute: raises a BurnishError if the run fails.
            inline_rows: of the largest request that is run here.
            shared_rows: that requests may have in a run that they share; 0: they share none.
            statistics: of the version.
        """
        self._compute = compute
        self._inline_rows = inline_rows
        self._shared_rows = shared_rows
        self._quick_rows = inline_rows
        """Of a shared run that is quick enough; learned, for together rows take less than each alone."""
        self._statistics = statistics

    def run(self, requests: Sequence[Arrays], rows: Sequence[int]) -> list[Outcome | None]:
        """Compute requests; return for each what came of it, None for those that are too large to be run here."""
        if len(requests) == 1:
            return [*self._run(requests, rows)] if rows[0] <= self._inline_rows else [None]
        found: list[Outcome | None] = [None] * len(requests)
        for some in self._runs_for(rows):
            outcomes = self._run([requests[one] for one in some], [rows[one] for one in some])
            for one, outcome in zip(some, outcomes, strict=True):
                found[one] = outcome
        return found

    def _runs_for(self, rows: Sequence[int]) -> list[list[int]]:
        """Return the requests of each run, by position."""
        most = min(self._quick_rows, self._shared_rows)
        runs: list[list[int]] = []
        left = 0
        for position, size in enumerate(rows):
            if size > self._inline_rows:
                continue
            if size <= left:
                runs[-1].append(position)
                left -= size
            else:
                runs.append([position])
                left = most - size
        return runs

    def _run(self, requests: Sequence[Arrays], rows: Sequence[int]) -> Sequence[Outcome]:
        start = time.perf_counter_ns()
        try:
            outputs = self._compute(requests, rows)
        except BurnishError as error:
            if len(requests) == 1:
                return [error]
            # alone, the one to blame harms no other
            return [self._run([one], [size])[0] for one, size in zip(requests, rows, strict=True)]
        took, size = time.perf_counter_ns() - start, sum(rows)
        self._statistics.ran(size, took)
        self._statistics.compute.add_each(took, len(rows))
        if took > _INLINE_NS:
            self._quick_rows = max(self._inline_rows, size // 2)
        elif 2 * took < _INLINE_NS:
            self._quick_rows = max(self._quick_rows, 2 * size)
        return outputs
