"""Measure candidates: a quick look at each one beside the leader, then the best ones and the baseline, longer."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import inf
from pathlib import Path

from registry.records.optimization import CandidateResult, OptimizationConfig
from serving.runtime import Arrays
from tasks.bench.measure import Plan
from tasks.bench.process import BenchItem, BenchmarkRun, benchmark
from tasks.optimizer.base import Artifact

FINALISTS = 6
"""Candidates beside the baseline that the final measurement takes: each further one makes all turns rarer."""

FINALISTS_AT_FULL_BATCH = 2
"""Of these, that many may be there for their speed at the largest batch size alone."""

SCREENING_SECONDS = 1.0
FINAL_SECONDS = 30.0

_LEAST_TO_MEASURE = 0.4
"""The share of the final measurement's time that is kept from loading; fewer are measured if loading takes more."""


@dataclass(frozen=True)
class Contestant:
    """A built candidate that may be measured."""

    result: CandidateResult
    artifact: Artifact

    @property
    def item(self) -> BenchItem:
        """What the benchmark is told."""
        return BenchItem(
            id=self.result.candidate.id,
            folder=self.artifact.folder,
            artifact=self.artifact.format,
            runtime=self.result.candidate.runtime,
            signature=self.artifact.signature,
        )


@dataclass
class Measurement:
    """How the candidates of one search are measured."""

    config: OptimizationConfig
    inputs: Arrays
    workspace: Path
    _loads: list[float] = field(default_factory=list)
    """Seconds that one candidate took to load in each quick look, the child's own start among them."""

    def screen(self, leader: Contestant | None, contestant: Contestant, timeout_s: float) -> BenchmarkRun:
        """Take a quick look at one candidate beside the leader, at all batch sizes."""
        name = contestant.result.candidate.id[:12]
        items = (leader.item, contestant.item) if leader else (contestant.item,)
        started = time.monotonic()
        run = self._run(items, SCREENING_SECONDS, 0.1, f"screening-{name}", timeout_s)
        self._loads.append(max(0.0, time.monotonic() - started - SCREENING_SECONDS) / len(items))
        return run

    def within(self, contestants: Sequence[Contestant], seconds: float) -> list[Contestant]:
        """Return as many of the contestants, the first ones, as can be loaded in a share of the time; at least two."""
        loading = (1 - _LEAST_TO_MEASURE) * seconds
        return list(contestants[: max(2, int(loading / max(self._load_s, 1e-3)))])

    def final(self, contestants: Sequence[Contestant], seconds: float) -> BenchmarkRun:
        """Measure the finalists in turns, the baseline first.

        Args:
            contestants: the finalists.
            seconds: for loading and measuring.
        """
        cap = max(_LEAST_TO_MEASURE * seconds, seconds - self._load_s * len(contestants))
        return self._run(tuple(one.item for one in contestants), min(FINAL_SECONDS, cap), 0.02, "final")

    @property
    def _load_s(self) -> float:
        return sum(self._loads) / len(self._loads) if self._loads else 0.0

    def _run(
        self, items: tuple[BenchItem, ...], seconds: float, half_width: float, name: str, timeout_s: float = inf
    ) -> BenchmarkRun:
        plan = Plan(
            batch_sizes=self.config.batch_sizes,
            threads=self.config.threads,
            seed=self.config.seed,
            seconds_cap=seconds,
            half_width=half_width,
        )
        return benchmark(items, self.inputs, plan, self.workspace / name, timeout_s)
