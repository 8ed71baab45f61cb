"""The time that a search may take."""

import time

from registry.records.optimization import OptimizationConfig

_FINAL_SHARE = 0.3
_FINAL_RESERVE_S = 45.0


class Budget:
    """The budget: candidates are built until a share of it is left, which belongs to the final measurement."""

    def __init__(self, config: OptimizationConfig) -> None:
        """Start now."""
        self._started = time.monotonic()
        budget_s = 60 * config.budget_minutes
        self._words = f"the budget of {config.budget_minutes:g} minutes was spent"
        self._ends = self._started + budget_s
        self._builds_until = self._ends - min(_FINAL_SHARE * budget_s, _FINAL_RESERVE_S)

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
        """Seconds left of the whole budget, at least one."""
        return max(1.0, self._ends - time.monotonic())

    def spent(self, when: str) -> str:
        """Say that the budget was spent."""
        return f"{self._words} {when}"
