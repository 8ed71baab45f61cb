"""Who leads while a search runs: the candidates that passed their gate, by a quick look at their speed."""

from collections.abc import Sequence

from registry.records.benchmark import Benchmark, Interval, LatencyFigures
from registry.records.optimization import CandidateResult, CandidateStatus, OptimizationConfig, Policy
from tasks.bench.process import BenchmarkRun
from tasks.optimizer.measurement import FINALISTS, FINALISTS_AT_FULL_BATCH, Contestant
from tasks.optimizer.pareto import choose, latency_at_largest_batch, policy_axes, within_limit


class Standings:
    """The contestants of one search.

    Every quick look is a run of its own, and the machine may be slower in one than in another; so figures are brought
    to one scale by what the leader at the time did in the same run.
    """

    def __init__(self, config: OptimizationConfig) -> None:
        """Start empty."""
        self._config = config
        self._contestants: list[Contestant] = []

    def enter(self, contestant: Contestant, run: BenchmarkRun) -> Contestant:
        """Add a contestant that was measured beside the leader and return it with its figures, on the common scale."""
        figures = run.figures[contestant.result.candidate.id]
        leader = self.leader
        if leader:
            figures = _scaled(figures, leader.result.benchmark, run.figures.get(leader.result.candidate.id))
        entered = Contestant(contestant.result.model_copy(update={"benchmark": figures}), contestant.artifact)
        self.add(entered)
        return entered

    def add(self, contestant: Contestant) -> None:
        """Add a contestant whose figures are on the common scale already."""
        self._contestants.append(contestant)

    @property
    def leader(self) -> Contestant | None:
        """Whom the policy would pick now."""
        measured = [_measured(one.result) for one in self._contestants]
        chosen = choose(measured, self._config.policy, self._config.latency_limit_ms)
        if chosen is None:
            return None
        return next(one for one in self._contestants if one.result.candidate.id == chosen.candidate.id)

    @property
    def finalists(self) -> list[Contestant]:
        """The baselines, the best of the others by what the policy asks for first, and the best of a full batch.

        With the last ones, a choice by latency and one by throughput from the same result both find their winner.
        """
        axis = policy_axes(self._config.policy, self._config.latency_limit_ms)[0]
        limit = self._config.latency_limit_ms if self._config.policy is Policy.MAX_THROUGHPUT_UNDER_LATENCY else None
        others = [one for one in self._contestants if not one.result.baseline and within_limit(one.result, limit)]
        best = sorted(others, key=lambda one: axis.rank(one.result))[:FINALISTS]
        best += sorted(others, key=_full_batch_ms)[:FINALISTS_AT_FULL_BATCH]
        unique = {one.result.candidate.id: one for one in best}
        return [one for one in self._contestants if one.result.baseline] + list(unique.values())

    def others(self, finalists: Sequence[Contestant]) -> list[CandidateResult]:
        """The results of those who are not among the finalists."""
        ids = {one.result.candidate.id for one in finalists}
        return [one.result for one in self._contestants if one.result.candidate.id not in ids]


def _full_batch_ms(contestant: Contestant) -> float:
    return latency_at_largest_batch(contestant.result).latency_p50_ms.estimate


def _measured(result: CandidateResult) -> CandidateResult:
    return result.model_copy(update={"status": CandidateStatus.MEASURED})


def _scaled(figures: Benchmark, leader: Benchmark | None, again: Benchmark | None) -> Benchmark:
    """Bring figures to the common scale, given the leader's figures on it and its figures in this run."""
    if leader is None or again is None:
        return figures
    return figures.model_copy(
        update={
            "latency": tuple(
                _scaled_latency(one, _p50(leader, one.batch_size) / _p50(again, one.batch_size))
                for one in figures.latency
            )
        }
    )


def _p50(benchmark: Benchmark, batch_size: int) -> float:
    return benchmark.at_batch(batch_size).latency_p50_ms.estimate


def _scaled_latency(figures: LatencyFigures, factor: float) -> LatencyFigures:
    return figures.model_copy(
        update={
            "latency_p50_ms": _times(figures.latency_p50_ms, factor),
            "latency_p99_ms": _times(figures.latency_p99_ms, factor),
            "throughput_per_s": _times(figures.throughput_per_s, 1 / factor),
        }
    )


def _times(interval: Interval, factor: float) -> Interval:
    return interval.model_copy(update={name: getattr(interval, name) * factor for name in ("estimate", "low", "high")})
