"""The front and the choice: noise is no difference, the policy decides, the baseline stays unless it is beaten."""

import pytest

from registry.errors import InputError
from registry.records.gate import GateDecision
from registry.records.optimization import CandidateResult, CandidateStatus, Policy
from tasks.optimizer.pareto import choose, dominates, eligible, front, why_not_chosen
from tests.unit.tasks.optimizer.results import benchmark, candidate, measured, refused


def one(name: str, p50_ms: float, score: float = 0.97, **fields: object) -> CandidateResult:
    size, noise = int(str(fields.pop("size", 100_000))), float(str(fields.pop("noise", 0.02)))
    memory = float(str(fields.pop("memory", 10.0)))
    return measured(candidate(name), benchmark(p50_ms, size=size, noise=noise, memory=memory), score, **fields)


def ids(*results: CandidateResult) -> frozenset[str]:
    return frozenset(result.candidate.id for result in results)


def test_only_measured_candidates_that_passed_their_gate_are_eligible() -> None:
    good = one("good", 1)
    no_gate = one("no gate", 0.1, gate=GateDecision())
    built = one("built", 0.1, status=CandidateStatus.BUILT)
    failed_gate = refused(candidate("bad"), "fidelity", "lost too many")
    assert eligible([good, no_gate, built, failed_gate]) == [good]
    assert front([no_gate, built, failed_gate]) == frozenset()
    assert choose([no_gate, built, failed_gate], Policy.MIN_LATENCY) is None


def test_the_front_holds_every_trade_and_drops_what_is_worse() -> None:
    fast, exact, small = one("fast", 1, 0.95), one("exact", 2, 0.99), one("small", 3, 0.95, size=10_000)
    worse = one("worse", 4, 0.95)
    assert front([fast, exact, small, worse]) == ids(fast, exact, small)
    assert dominates(fast, worse) and not dominates(worse, fast)


def test_noise_is_no_difference() -> None:
    first, second = one("first", 1.0, noise=0.1), one("second", 1.1, noise=0.1)
    assert not dominates(first, second)
    assert front([first, second]) == ids(first, second)
    hungry = one("hungry", 1.0, noise=0.1, memory=11)
    assert not dominates(first, hungry)
    assert dominates(first, one("hungrier", 1.0, noise=0.1, memory=20))


def test_dominance_in_a_circle_keeps_all() -> None:
    """Each beats the next on one axis by more than noise and ties with it on the others."""
    a = one("a", 1.00, 0.979, noise=0.1, memory=13)
    b = one("b", 1.30, 0.990, noise=0.1, memory=12)
    c = one("c", 1.15, 0.968, noise=0.1, memory=10)
    assert dominates(a, b) and dominates(b, c) and dominates(c, a)
    assert front([a, b, c]) == ids(a, b, c)


def test_the_policy_decides() -> None:
    fast = one("fast", 1, size=900)
    wide = one("wide", 2, size=900)
    wide = wide.model_copy(update={"benchmark": wide.benchmark and _with_throughput(wide, 10)})
    small = one("small", 3, size=90)
    results = [fast, wide, small]
    assert choose(results, Policy.MIN_LATENCY) == fast
    assert choose(results, Policy.MAX_THROUGHPUT) == wide
    assert choose(results, Policy.MIN_SIZE) == small


def _with_throughput(result: CandidateResult, times: float) -> object:
    assert result.benchmark
    latency = list(result.benchmark.latency)
    rate = latency[-1].throughput_per_s
    more = rate.model_copy(update={name: getattr(rate, name) * times for name in ("estimate", "low", "high")})
    latency[-1] = latency[-1].model_copy(update={"throughput_per_s": more})
    return result.benchmark.model_copy(update={"latency": tuple(latency)})


def test_throughput_under_a_latency_limit() -> None:
    slow_wide = one("slow wide", 2)
    slow_wide = slow_wide.model_copy(update={"benchmark": _with_throughput(slow_wide, 100)})
    fast = one("fast", 1)  # p99 2 ms at batch 1, 8 ms at batch 8
    policy = Policy.MAX_THROUGHPUT_UNDER_LATENCY
    assert choose([slow_wide, fast], policy, 100) == slow_wide
    assert choose([slow_wide, fast], policy, 9) == fast
    assert choose([slow_wide, fast], policy, 1) is None
    assert "above the limit of 3 ms at every batch size" in why_not_chosen(slow_wide, fast, policy, 3)
    with pytest.raises(InputError, match="latency_limit_ms"):
        choose([fast], policy)


def test_among_those_that_cannot_be_told_apart_the_next_axis_decides() -> None:
    noisy = one("noisy", 0.98, 0.95, noise=0.05)
    exact = one("exact", 1.0, 0.99, noise=0.05)
    assert choose([noisy, exact], Policy.MIN_LATENCY) == exact
    larger = one("larger", 0.98, 0.99, noise=0.05, size=200_000)
    assert choose([larger, exact], Policy.MIN_LATENCY) == exact


def test_the_best_estimate_wins_where_nothing_decides() -> None:
    first, second = one("first", 1.0, noise=0.05), one("second", 1.01, noise=0.05)
    assert choose([second, first], Policy.MIN_LATENCY) == first
    assert "cannot be told apart from the winner" in why_not_chosen(second, first, Policy.MIN_LATENCY)


def test_a_baseline_that_nothing_beats_stays() -> None:
    baseline = one("baseline", 1.0, noise=0.05, baseline=True)
    same = one("same", 0.99, noise=0.05)
    assert choose([same, baseline], Policy.MIN_LATENCY) == baseline
    assert "the baseline, which stays" in why_not_chosen(same, baseline, Policy.MIN_LATENCY)
    assert choose([one("faster", 0.5), baseline], Policy.MIN_LATENCY) != baseline


def test_the_reason_names_the_axis_and_both_figures() -> None:
    winner, loser = one("winner", 0.053), one("loser", 0.88)
    assert why_not_chosen(loser, winner, Policy.MIN_LATENCY) == "p50 latency 0.880 ms, the winner's 0.0530 ms"
    assert why_not_chosen(loser, winner, Policy.MAX_THROUGHPUT).startswith(
        "throughput 2,270 /s, the winner's 37,700 /s"
    )
