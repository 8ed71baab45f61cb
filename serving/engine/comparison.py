"""Comparison: how far the outputs of two versions on the same request are apart, request by request and summed up.

A difference is absolute, and relative to the largest value of the primary's output. Where shapes or types differ, or
only one side is finite, there is no number for it: the difference is infinite, and counted as incomparable.
"""

import math
import time
from bisect import bisect_left
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from serving.runtime import Array, Arrays

CLOSE = 0.01
"""Outputs without classes agree when they differ by no more than this share of the output's largest value."""
RELATIVE_BOUNDS = (0.0, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)
"""Upper ends of the histogram of relative differences; one more bucket holds what is larger."""
LATENCY_BOUNDS_MS = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0)
"""Upper ends of the histogram of latencies; one more bucket holds what is larger."""


@dataclass(frozen=True, slots=True)
class OutputDifference:
    """One output of one request, from two versions."""

    name: str
    max_abs: float
    max_rel: float
    agreement: float | None
    """Share of the rows whose largest entry stands at the same place; None where rows are not scores of classes."""

    @property
    def agreed(self) -> bool:
        """Every row says the same or, where rows are not scores, every value is close."""
        return self.max_rel <= CLOSE if self.agreement is None else self.agreement == 1.0


@dataclass(frozen=True, slots=True)
class PairedDifference:
    """One request, answered by the primary and computed again by the shadow."""

    request_id: str
    rows: int
    primary_ns: int
    shadow_ns: int
    outputs: tuple[OutputDifference, ...]
    timestamp_ms: int = field(default_factory=lambda: time.time_ns() // 1_000_000)

    @property
    def agreed(self) -> bool:
        """Every output agrees."""
        return all(output.agreed for output in self.outputs)


def compare(primary: Arrays, shadow: Arrays) -> tuple[OutputDifference, ...]:
    """Compare the outputs of two versions, in the order of the primary's; what only the shadow has is left out."""
    return tuple(_compare(name, array, shadow.get(name)) for name, array in primary.items())


def _compare(name: str, primary: Array, shadow: Array | None) -> OutputDifference:
    scores = primary.ndim == 2 and primary.shape[1] > 1 and primary.dtype.kind in "fV"
    if shadow is None or shadow.shape != primary.shape or shadow.dtype != primary.dtype:
        return OutputDifference(name, math.inf, math.inf, 0.0 if scores else None)
    if primary.dtype.kind in "OSU":
        apart = 0.0 if np.array_equal(primary, shadow) else math.inf
        return OutputDifference(name, apart, apart, None)
    left, right = primary.astype(np.float64), shadow.astype(np.float64)
    max_abs = _max_abs(left, right)
    size = float(np.max(np.abs(left), initial=0.0, where=np.isfinite(left)))
    max_rel = max_abs / size if size else (math.inf if max_abs else 0.0)
    agreement = float(np.mean(left.argmax(axis=1) == right.argmax(axis=1))) if scores and len(left) else None
    return OutputDifference(name, max_abs, max_rel, agreement)


def _max_abs(left: npt.NDArray[np.float64], right: npt.NDArray[np.float64]) -> float:
    same = (left == right) | (np.isnan(left) & np.isnan(right))
    with np.errstate(invalid="ignore"):
        apart = np.where(same, 0.0, np.abs(left - right))
    return float(np.max(np.where(np.isnan(apart), math.inf, apart), initial=0.0))


class _Histogram:
    """Counts by upper bound, with sum and maximum."""

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0
        self.max = 0.0
        self._bounds = bounds

    def add(self, value: float) -> None:
        self.counts[bisect_left(self._bounds, value)] += 1
        self.sum += value
        self.max = max(self.max, value)

    def figures(self) -> dict[str, Any]:
        count = sum(self.counts)
        mean = self.sum / count if count else None
        return {"count": count, "mean": mean, "max": self.max if count else None, "histogram": list(self.counts)}


class _OutputSummary:
    """One output over all pairs."""

    def __init__(self) -> None:
        self.incomparable = 0
        self._abs = _Histogram(())
        self._rel = _Histogram(RELATIVE_BOUNDS)
        self._rows = 0
        self._rows_agreed = 0.0

    def add(self, difference: OutputDifference, rows: int) -> None:
        if math.isinf(difference.max_rel):
            self.incomparable += 1
        else:
            self._abs.add(difference.max_abs)
            self._rel.add(difference.max_rel)
        if difference.agreement is not None:
            self._rows += rows
            self._rows_agreed += rows * difference.agreement

    def figures(self) -> dict[str, Any]:
        return {
            "incomparable": self.incomparable,
            "max_abs": {name: value for name, value in self._abs.figures().items() if name != "histogram"},
            "max_rel": self._rel.figures(),
            "top1_agreement": self._rows_agreed / self._rows if self._rows else None,
        }


class Comparison:
    """All pairs of a primary and a shadow under one catalog entry, in memory that does not grow with their number."""

    def __init__(self, primary: int, shadow: int) -> None:
        """Take the numbers of the two versions."""
        self.primary = primary
        self.shadow = shadow
        self.compared = 0
        self.agreed = 0
        self.failed = 0
        self.error: str | None = None
        """Why the shadow failed last."""
        self._outputs: dict[str, _OutputSummary] = {}
        self._primary_ms = _Histogram(LATENCY_BOUNDS_MS)
        self._shadow_ms = _Histogram(LATENCY_BOUNDS_MS)

    def add(self, pair: PairedDifference) -> None:
        """Count one pair."""
        self.compared += 1
        self.agreed += pair.agreed
        self._primary_ms.add(pair.primary_ns / 1e6)
        self._shadow_ms.add(pair.shadow_ns / 1e6)
        for output in pair.outputs:
            self._outputs.setdefault(output.name, _OutputSummary()).add(output, pair.rows)

    def fail(self, reason: str) -> None:
        """Count one request that the shadow could not compute."""
        self.failed += 1
        self.error = reason

    def figures(self) -> dict[str, Any]:
        """Return the counts, extremes and histograms, as JSON has them."""
        return {
            "primary": self.primary,
            "shadow": self.shadow,
            "compared": self.compared,
            "agreed": self.agreed,
            "failed": self.failed,
            "error": self.error,
            "primary_ms": self._primary_ms.figures(),
            "shadow_ms": self._shadow_ms.figures(),
            "outputs": {name: summary.figures() for name, summary in self._outputs.items()},
        }
