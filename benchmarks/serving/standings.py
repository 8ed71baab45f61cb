"""Rounds to figures: medians with bootstrap intervals, ratios of rounds of the same cycle."""

import os
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from benchmarks.serving.figures import Round, Standing
from benchmarks.serving.rounds import Bout
from registry.records.benchmark import Interval
from tasks.bench.intervals import intervals, resampled_rounds

WORKERS = 2
"""Of the engine that is held against the engine with one."""

Floats = npt.NDArray[np.float64]


class Measured:
    """All rounds of all bouts."""

    def __init__(self, bouts: Sequence[Bout], cycles: Sequence[Sequence[Round]]) -> None:
        """Take [cycle][bout] rounds, at least one cycle."""
        self._bouts = {(bout.target.name, bout.connections): number for number, bout in enumerate(bouts)}
        self._targets = [bout.target for bout in bouts]
        self._cycles = cycles
        self._draws = resampled_rounds(len(cycles), seed=0)

    def has(self, name: str, connections: int) -> bool:
        """True if a target was measured under this many connections and answered in every round."""
        key = name, connections
        return key in self._bouts and all(one.requests > 0 for one in self._column(key))

    def standings(self) -> list[Standing]:
        """Return the figures of every bout."""
        return [self._standing(key) for key in self._bouts]

    def p99_ms(self, name: str, connections: int) -> Interval:
        """Return the median over rounds of a target's p99."""
        return self._median([one.p99_ms for one in self._column((name, connections))])

    def ratio(self, upper: tuple[str, int], lower: tuple[str, int]) -> Interval:
        """Return the median over cycles of the ratio of two rates, each a target under a number of connections."""
        return self._median(self._pairs(upper, lower, lambda one: one.rate))

    def accounted(self, two: tuple[str, int], one: tuple[str, int]) -> Interval:
        """Return what two workers answer over what one does, had the load generator taken no core from the two.

        The two workers and the load generator share the machine's cores. In a round in which it used ``c`` of them,
        ``cores - c`` were left for workers that can use ``WORKERS``; the rate is scaled by what they lacked. Cores that
        stood idle count against the workers.
        """
        cores = float(os.cpu_count() or 1)
        return self._median(self._pairs(two, one, lambda it: it.rate, lambda it: _undisturbed(it, cores)))

    def _pairs(
        self,
        upper: tuple[str, int],
        lower: tuple[str, int],
        below: Callable[[Round], float],
        above: Callable[[Round], float] | None = None,
    ) -> list[float]:
        both = zip(self._column(upper), self._column(lower), strict=True)
        return [(above or below)(first) / below(second) for first, second in both]

    def _column(self, key: tuple[str, int]) -> list[Round]:
        return [cycle[self._bouts[key]] for cycle in self._cycles]

    def _median(self, values: Sequence[float]) -> Interval:
        (found,) = intervals(np.array(values), self._draws, lambda drawn: (float(np.median(drawn)),))
        return found

    def _standing(self, key: tuple[str, int]) -> Standing:
        column = self._column(key)
        cpu = sum(one.server_cpu * one.seconds for one in column)
        return Standing(
            target=key[0],
            settled=self._targets[self._bouts[key]].settled,
            connections=key[1],
            rate=self._median([one.rate for one in column]),
            p50_ms=self._median([one.p50_ms for one in column]),
            p99_ms=self._median([one.p99_ms for one in column]),
            server_cpu=float(np.median([one.server_cpu for one in column])),
            client_cpu=float(np.median([one.client_cpu for one in column])),
            rate_per_core=sum(one.requests for one in column) / cpu if cpu else 0.0,
            requests=sum(one.requests for one in column),
            errors=sum(one.errors for one in column),
            first_error=next((one.first_error for one in column if one.first_error), ""),
        )


def _undisturbed(one: Round, cores: float) -> float:
    left = cores - one.client_cpu
    return one.rate * max(1.0, WORKERS / left)
