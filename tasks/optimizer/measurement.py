"""Measure candidates: a quick look at each one beside the leader, then the best ones and the baseline, longer."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from registry.records.optimization import CandidateResult, OptimizationConfig, Policy
from serving.runtime import Arrays
from tasks.bench.measure import Plan
from tasks.bench.process import BenchItem, BenchmarkRun, benchmark
from tasks.optimizer.base import Artifact

FINALISTS = 6
"""Candidates beside the baseline that the final measurement takes: each further one makes all turns rarer."""

SCREENING_SECONDS = 1.0
FINAL_SECONDS = 30.0


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


@dataclass(frozen=True)
class Measurement:
    """How the candidates of one search are measured."""

    config: OptimizationConfig
    inputs: Arrays
    workspace: Path

    def screen(self, leader: Contestant | None, contestant: Contestant) -> BenchmarkRun:
        """Take a quick look at one candidate beside the leader, at the batch sizes that the policy asks about."""
        plan = Plan(
            batch_sizes=self._sizes_of_policy(),
            threads=self.config.threads,
            seed=self.config.seed,
            seconds_cap=SCREENING_SECONDS,
            half_width=0.1,
        )
        name = contestant.result.candidate.id[:12]
        items = (leader.item, contestant.item) if leader else (contestant.item,)
        return benchmark(items, self.inputs, plan, self.workspace / f"screening-{name}")

    def final(self, contestants: Sequence[Contestant], seconds: float) -> BenchmarkRun:
        """Measure the finalists in turns, the baseline first."""
        plan = Plan(
            batch_sizes=self.config.batch_sizes,
            threads=self.config.threads,
            seed=self.config.seed,
            seconds_cap=min(FINAL_SECONDS, seconds),
        )
        return benchmark(tuple(one.item for one in contestants), self.inputs, plan, self.workspace / "final")

    def _sizes_of_policy(self) -> tuple[int, ...]:
        sizes = self.config.batch_sizes
        if self.config.policy is Policy.MAX_THROUGHPUT:
            return (max(sizes),)
        return sizes if self.config.policy is Policy.MAX_THROUGHPUT_UNDER_LATENCY else (min(sizes),)
