"""The time that a search may take, and what it went to."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from registry.records.optimization import OptimizationConfig

_FINAL_SHARE = 0.3
_FINAL_RESERVE_S = 45.0

REPORT_S = 3.0
"""Writing the result and its page."""


class Budget:
    """The budget: candidates are built until a share of it is left, which belongs to the final measurement."""

    def __init__(self, config: OptimizationConfig, used_s: float = 0.0) -> None:
        """Start now.

        Args:
            config: says how many minutes.
            used_s: what earlier runs of this search have used already.
        """
        self._started = time.monotonic() - used_s
        budget_s = 60 * config.budget_minutes
        self._words = f"the budget of {config.budget_minutes:g} minutes was spent"
        self._ends = self._started + budget_s
        self._builds_until = self._ends - min(_FINAL_SHARE * budget_s, _FINAL_RESERVE_S)
        self.steps: dict[str, float] = {}
        """Seconds by kind of step."""

    @property
    def seconds_used(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._started

    @property
    def build_seconds(self) -> float:
        """Seconds left for building."""
        return self._builds_until - time.monotonic()

    @property
    def final_seconds(self) -> float:
        """Seconds left of the whole budget for the final measurement, at least one."""
        return max(1.0, self._ends - time.monotonic() - REPORT_S)

    def spent(self, when: str) -> str:
        """Say that the budget was spent."""
        return f"{self._words} {when}".rstrip()

    @contextmanager
    def on(self, step: str) -> Iterator[None]:
        """Book the time of what is done inside."""
        started = time.monotonic()
        try:
            yield
        finally:
            self.steps[step] = self.steps.get(step, 0.0) + time.monotonic() - started
