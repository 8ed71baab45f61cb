"""Choose among the candidates that passed their gate: a Pareto front with intervals, then a named policy."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from registry.errors import InputError
from registry.records.benchmark import Benchmark, Interval, LatencyFigures
from registry.records.optimization import CandidateResult, CandidateStatus, Policy
from tasks.optimizer import wording

MEMORY_NOISE = 0.1
"""Share by which two runs of one session differ in peak memory: allocators round up and keep what they had."""


@dataclass(frozen=True)
class Axis:
    """One thing that candidates compete on."""

    name: str
    measure: Callable[[CandidateResult], Interval]
    show: Callable[[float], str]
    larger_is_better: bool = False

    def better(self, first: CandidateResult, second: CandidateResult) -> bool:
        """True if the first is better beyond noise: the two intervals do not meet."""
        ours, theirs = self.measure(first), self.measure(second)
        return ours.low > theirs.high if self.larger_is_better else ours.high < theirs.low

    def rank(self, result: CandidateResult) -> float:
        """The estimate, turned so that less is better."""
        estimate = self.measure(result).estimate
        return -estimate if self.larger_is_better else estimate

    def text(self, result: CandidateResult) -> str:
        """The estimate with its unit."""
        return self.show(self.measure(result).estimate)


def latency_at_smallest_batch(result: CandidateResult) -> LatencyFigures:
    """The figures of one call at the smallest batch size measured, usually 1."""
    return min(_benchmark(result).latency, key=lambda figures: figures.batch_size)


def latency_at_largest_batch(result: CandidateResult) -> LatencyFigures:
    """The figures of one call at the largest batch size measured."""
    return max(_benchmark(result).latency, key=lambda figures: figures.batch_size)


def _benchmark(result: CandidateResult) -> Benchmark:
    if result.benchmark is None:
        raise ValueError(f"{result.candidate.label} was not measured")
    return result.benchmark


def _score(result: CandidateResult) -> Interval:
    if result.score is None:
        raise ValueError(f"{result.candidate.label} was not scored")
    return result.score


def _fixed(value: float, noise: float = 0.0) -> Interval:
    return Interval(estimate=value, low=value * (1 - noise), high=value * (1 + noise))


LATENCY = Axis("p50 latency", lambda result: latency_at_smallest_batch(result).latency_p50_ms, wording.milliseconds)
THROUGHPUT = Axis(
    "throughput",
    lambda result: latency_at_largest_batch(result).throughput_per_s,
    wording.per_second,
    larger_is_better=True,
)
SCORE = Axis("score", _score, wording.percent, larger_is_better=True)
SIZE = Axis("size", lambda result: _fixed(_benchmark(result).size_bytes), wording.data_size)
MEMORY = Axis("peak memory", lambda result: _fixed(_benchmark(result).peak_memory_mib, MEMORY_NOISE), wording.mebibytes)
AXES = (LATENCY, THROUGHPUT, SCORE, SIZE, MEMORY)


def eligible(results: Sequence[CandidateResult]) -> list[CandidateResult]:
    """The candidates that may be chosen: measured, scored, and through every rule of their gate."""
    return [
        result
        for result in results
        if result.status is CandidateStatus.MEASURED and result.benchmark and result.score and result.gate.passed
    ]


def dominates(first: CandidateResult, second: CandidateResult) -> bool:
    """True if the first is better beyond noise on one axis and worse beyond noise on none."""
    return any(axis.better(first, second) for axis in AXES) and not any(axis.better(second, first) for axis in AXES)


def front(results: Sequence[CandidateResult]) -> frozenset[str]:
    """Return the ids of the eligible candidates that no other one dominates.

    "Not worse beyond noise" is not transitive: where dominance runs in a circle, all are on the front.
    """
    pool = eligible(results)
    kept = [result for result in pool if not any(dominates(other, result) for other in pool)]
    return frozenset(result.candidate.id for result in kept or pool)


def choose(
    results: Sequence[CandidateResult], policy: Policy, latency_limit_ms: float | None = None
) -> CandidateResult | None:
    """Return the candidate that a policy picks from the front; None if no candidate may be chosen.

    The policy's first axis decides; candidates that cannot be told from the best on it are compared on the next. If a
    baseline is among those that nothing beats, it stays; else the best estimate on the first axis wins.

    Args:
        results: all candidates of a search.
        policy: what to ask for first.
        latency_limit_ms: for ``max_throughput_under_latency``, which counts the throughput at the batch sizes whose
            p99 latency is within the limit.

    Raises:
        InputError: the policy needs a latency limit and there is none.
    """
    axes = policy_axes(policy, latency_limit_ms)
    limit = latency_limit_ms if policy is Policy.MAX_THROUGHPUT_UNDER_LATENCY else None
    allowed = [result for result in eligible(results) if within_limit(result, limit)]
    on_front = front(allowed)
    pool = [result for result in allowed if result.candidate.id in on_front]
    for axis in axes:
        if pool:
            best = min(pool, key=axis.rank)
            pool = [result for result in pool if not axis.better(best, result)]
    return min(pool, key=lambda result: (not result.baseline, axes[0].rank(result)), default=None)


def policy_axes(policy: Policy, latency_limit_ms: float | None) -> tuple[Axis, ...]:
    """Return the axes in the order in which a policy asks for them.

    Raises:
        InputError: the policy needs a latency limit and there is none.
    """
    if policy is Policy.MIN_LATENCY:
        return LATENCY, THROUGHPUT, SCORE, SIZE, MEMORY
    if policy is Policy.MIN_SIZE:
        return SIZE, LATENCY, THROUGHPUT, SCORE, MEMORY
    if policy is Policy.MAX_THROUGHPUT:
        return THROUGHPUT, LATENCY, SCORE, SIZE, MEMORY
    if latency_limit_ms is None:
        raise InputError(f"the policy {policy} needs a limit: set latency_limit_ms in the configuration")
    under = Axis(
        f"throughput with p99 latency within {wording.milliseconds(latency_limit_ms)}",
        lambda result: max(within_limit(result, latency_limit_ms), key=lambda interval: interval.estimate),
        wording.per_second,
        larger_is_better=True,
    )
    return under, LATENCY, SCORE, SIZE, MEMORY


def within_limit(result: CandidateResult, latency_limit_ms: float | None) -> list[Interval]:
    """The throughputs at the batch sizes whose p99 latency is within the limit; all if there is no limit."""
    return [
        figures.throughput_per_s
        for figures in _benchmark(result).latency
        if latency_limit_ms is None or figures.latency_p99_ms.estimate <= latency_limit_ms
    ]


def why_not_chosen(
    result: CandidateResult, winner: CandidateResult, policy: Policy, latency_limit_ms: float | None = None
) -> str:
    """Say why an eligible candidate lost to the winner: the first axis of the policy on which it is worse.

    Raises:
        InputError: the policy needs a latency limit and there is none.
    """
    axes = policy_axes(policy, latency_limit_ms)
    if policy is Policy.MAX_THROUGHPUT_UNDER_LATENCY and not within_limit(result, latency_limit_ms):
        return f"its p99 latency is above the limit of {latency_limit_ms:g} ms at every batch size"
    for axis in axes:
        if axis.better(winner, result):
            return f"{axis.name} {axis.text(result)}, the winner's {axis.text(winner)}"
    if winner.baseline:
        return "cannot be told apart from the baseline, which stays"
    return f"cannot be told apart from the winner ({axes[0].name} {axes[0].text(result)} and {axes[0].text(winner)})"
