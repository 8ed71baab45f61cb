"""The paired test: known values, its error rates by simulation, and its monotonicity."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize, stats

from registry.records.gate import PairedTest, Verdict
from tasks.gates.binary import (
    difference_interval,
    exact_p_value,
    power,
    samples_for_power,
    samples_required,
    sign_p_value,
    worse_p_value,
)
from tasks.gates.paired import inferiority, non_inferiority


def run(samples: int, losses: int, wins: int, *, margin: float = 0.01, alpha: float = 0.05) -> PairedTest:
    reference, candidate = np.ones(samples, bool), np.ones(samples, bool)
    candidate[:losses] = False
    reference[losses : losses + wins] = False
    return non_inferiority(reference, candidate, margin=margin, alpha=alpha)


def brute_force_p_value(losses: int, wins: int, samples: int, margin: float) -> float:
    """The definition, outcome by outcome, with the likelihood maximized by search instead of in closed form."""

    def score(b: int, c: int) -> float:
        def negative_log_likelihood(rate: float) -> float:
            parts = ((b, rate + margin), (c, rate), (samples - b - c, 1 - 2 * rate - margin))
            return -sum(count * math.log(max(p, 1e-300)) for count, p in parts if count)

        best = optimize.minimize_scalar(
            negative_log_likelihood, bounds=(0, (1 - margin) / 2), method="bounded", options={"xatol": 1e-12}
        )
        rate = min((best.x, 0.0, (1 - margin) / 2), key=negative_log_likelihood)
        return (c - b + samples * margin) / math.sqrt(samples * (2 * rate + margin - margin**2))

    observed = score(losses, wins)
    outcomes = [(b, c) for b in range(samples + 1) for c in range(samples + 1 - b)]
    tail = np.array([pair for pair in outcomes if score(*pair) >= observed - 1e-6])
    counts = np.column_stack([tail, samples - tail.sum(axis=1)])
    rates = np.linspace(0, (1 - margin) / 2, 400)
    ties = np.clip(1 - 2 * rates - margin, 0, 1)
    return max(
        float(stats.multinomial.pmf(counts, samples, [1 - q - tie, q, tie]).sum())
        for q, tie in zip(rates, ties, strict=True)
    )


@pytest.mark.parametrize(("losses", "wins"), [(0, 0), (1, 0), (0, 3), (2, 2), (3, 1), (7, 2)])
@pytest.mark.parametrize("margin", [0.05, 0.2])
def test_the_p_value_is_that_of_its_definition(losses: int, wins: int, margin: float) -> None:
    expected = brute_force_p_value(losses, wins, 16, margin)
    assert exact_p_value(losses, wins, 16, margin) == pytest.approx(expected, rel=2e-3)


def test_zero_losses_need_the_samples_of_the_formula() -> None:
    assert samples_required(0.01, 0.05) == 299 == math.ceil(math.log(0.05) / math.log(0.99))
    assert samples_required(0.05, 0.05) == 59
    assert run(299, 0, 0).p_value == pytest.approx(0.99**299)
    assert run(299, 0, 0).verdict is Verdict.PASS
    assert run(298, 0, 0).verdict is Verdict.CANNOT_TELL


@pytest.mark.parametrize(("margin", "alpha"), [(0.01, 0.05), (0.02, 0.01), (0.1, 0.2), (0.3, 0.05)])
def test_samples_required_is_where_a_flawless_candidate_starts_to_pass(margin: float, alpha: float) -> None:
    required = samples_required(margin, alpha)
    assert run(required, 0, 0, margin=margin, alpha=alpha).verdict is Verdict.PASS
    assert run(required - 1, 0, 0, margin=margin, alpha=alpha).verdict is Verdict.CANNOT_TELL


@pytest.mark.parametrize(
    ("samples", "losses", "wins", "verdict"),
    [
        (898, 0, 0, Verdict.PASS),
        (898, 3, 3, Verdict.PASS),
        (898, 5, 3, Verdict.PASS),
        (898, 41, 3, Verdict.FAIL),
        (300, 1, 0, Verdict.CANNOT_TELL),  # 63 % of candidates that are as good would have passed
        (1000, 25, 25, Verdict.CANNOT_TELL),
        (4000, 125, 100, Verdict.FAIL),  # 88 % of candidates that are as good would have passed
        (100, 1, 0, Verdict.CANNOT_TELL),
        (100, 5, 0, Verdict.FAIL),  # too few samples to pass, but surely worse
        (40, 0, 0, Verdict.CANNOT_TELL),
        (100, 0, 10, Verdict.PASS),  # gains pass with fewer samples
        (100, 0, 100, Verdict.PASS),
        (1, 1, 0, Verdict.CANNOT_TELL),
    ],
)
def test_verdicts(samples: int, losses: int, wins: int, verdict: Verdict) -> None:
    test = run(samples, losses, wins)
    assert (test.verdict, test.samples, test.losses, test.wins) == (verdict, samples, losses, wins)
    assert test.samples_required == 299


def test_the_sign_test_is_exact() -> None:
    assert sign_p_value(5, 0) == pytest.approx(1 / 32)
    assert sign_p_value(0, 0) == pytest.approx(1)
    assert sign_p_value(2, 1) == pytest.approx(0.5)


@given(st.integers(1, 400), st.data(), st.sampled_from([0.005, 0.01, 0.05, 0.2]))
@settings(max_examples=60)
def test_more_losses_never_lower_p_and_more_wins_never_raise_it(
    samples: int, data: st.DataObject, margin: float
) -> None:
    losses = data.draw(st.integers(0, samples - 1))
    wins = data.draw(st.integers(0, samples - 1 - losses))
    here = exact_p_value(losses, wins, samples, margin)
    assert exact_p_value(losses + 1, wins, samples, margin) >= here - 1e-9
    assert exact_p_value(losses, wins + 1, samples, margin) <= here + 1e-9


def wrong_passes(simulations: int, samples: int, margin: float, win_rate: float, seed: int) -> int:
    """How many of these candidates, each worse by just the margin, pass."""
    rates = [win_rate + margin, win_rate, 1 - 2 * win_rate - margin]
    drawn = np.random.default_rng(seed).multinomial(samples, rates, size=simulations)
    p_values = {pair: exact_p_value(*pair, samples, margin) for pair in {(int(b), int(c)) for b, c, _ in drawn}}
    return sum(p_values[int(b), int(c)] <= 0.05 for b, c, _ in drawn)


@pytest.mark.parametrize("win_rate", [0.0, 0.01, 0.1])
def test_a_candidate_worse_by_the_margin_passes_no_more_often_than_alpha(win_rate: float) -> None:
    passed = wrong_passes(400, 320, 0.01, win_rate, seed=int(1000 * win_rate))
    assert stats.binom.sf(passed - 1, 400, 0.05) > 0.001, f"{passed} of 400 passed"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("samples", "margin", "win_rate"),
    list(itertools.product([60, 320, 898], [0.01, 0.05], [0.0, 0.003, 0.05])),
)
def test_error_rate_at_the_boundary(samples: int, margin: float, win_rate: float) -> None:
    passed = wrong_passes(3_000, samples, margin, win_rate, seed=1)
    assert stats.binom.sf(passed - 1, 3_000, 0.05) > 1e-4, f"{passed} of 3,000 passed"


def test_a_candidate_as_good_as_the_reference_passes_often() -> None:
    generator = np.random.default_rng(0)
    drawn = generator.multinomial(1500, [0.005, 0.005, 0.99], size=100)
    assert sum(exact_p_value(int(b), int(c), 1500, 0.01) <= 0.05 for b, c, _ in drawn) > 90


def pairs(samples: int, losses: int, wins: int) -> tuple[np.ndarray[tuple[int], np.dtype[np.bool_]], ...]:
    order = np.arange(samples)
    return (order < losses) | (order >= losses + wins), order >= losses


@pytest.mark.parametrize(
    ("samples", "losses", "wins", "verdict"),
    [
        (50, 5, 0, Verdict.FAIL),
        (50, 1, 0, Verdict.CANNOT_TELL),
        (20, 0, 0, Verdict.CANNOT_TELL),
        (400, 0, 0, Verdict.PASS),
        (300, 20, 2, Verdict.FAIL),
    ],
)
def test_worse_by_more_than_the_margin(samples: int, losses: int, wins: int, verdict: Verdict) -> None:
    assert inferiority(*pairs(samples, losses, wins), margin=0.01, alpha=0.05).verdict is verdict


@pytest.mark.parametrize("win_rate", [0.0, pytest.param(0.02, marks=pytest.mark.slow)])
def test_a_candidate_worse_by_just_the_margin_is_hardly_ever_called_worse(win_rate: float) -> None:
    drawn = np.random.default_rng(7).multinomial(120, [win_rate + 0.05, win_rate, 0.95 - 2 * win_rate], size=400)
    p_values = {(int(b), int(c)): worse_p_value(int(b), int(c), 120, 0.05) for b, c, _ in drawn}
    called = sum(p_values[int(b), int(c)] <= 0.05 for b, c, _ in drawn)
    assert stats.binom.sf(called - 1, 400, 0.05) > 0.001, f"{called} of 400 called"


def test_without_losses_nothing_is_worse() -> None:
    assert worse_p_value(0, 0, 100, 0.01) == pytest.approx(1)
    assert worse_p_value(0, 5, 100, 0.01) == pytest.approx(1)


@pytest.mark.parametrize("discordance", [0.01, pytest.param(0.04, marks=pytest.mark.slow)])
def test_the_power_is_the_share_of_good_candidates_that_pass(discordance: float) -> None:
    samples = samples_for_power(discordance, 0.01, 0.05, wanted=0.8)
    stated = power(discordance, samples, 0.01, 0.05)
    assert 0.74 <= stated <= 0.88
    drawn = np.random.default_rng(0).multinomial(samples, [discordance / 2, discordance / 2, 1 - discordance], size=200)
    passed = sum(exact_p_value(int(b), int(c), samples, 0.01) <= 0.05 for b, c, _ in drawn)
    assert stats.binomtest(passed, 200, stated).pvalue > 0.001, f"{passed} of 200 passed, {stated:.0%} stated"


def test_the_power_of_a_test_without_discordance_is_known() -> None:
    assert (power(0.0, 299, 0.01, 0.05), power(0.0, 298, 0.01, 0.05)) == (1, 0)
    assert samples_for_power(0.0, 0.01, 0.05, wanted=0.8) == 299
    found = run(320, 1, 1)
    assert found.verdict is Verdict.CANNOT_TELL and 0.3 < found.power < 0.7 and found.samples_for_power > 500


@pytest.mark.parametrize(("losses", "wins", "samples"), [(0, 0, 50), (12, 2, 44), (0, 9, 9), (9, 0, 9), (3, 0, 1000)])
def test_the_difference_interval_holds_the_estimate_and_mirrors(losses: int, wins: int, samples: int) -> None:
    found = difference_interval(losses, wins, samples, confidence=0.9)
    mirrored = difference_interval(wins, losses, samples, confidence=0.9)
    assert -1 <= found.low <= found.estimate == (wins - losses) / samples <= found.high <= 1
    assert (-mirrored.high, -mirrored.low) == pytest.approx((found.low, found.high), abs=1e-8)


def test_the_difference_interval_covers_the_truth() -> None:
    drawn = np.random.default_rng(0).multinomial(200, [0.06, 0.03, 0.91], size=400)
    intervals = [difference_interval(int(b), int(c), 200, confidence=0.9) for b, c, _ in drawn]
    covered = sum(interval.low <= -0.03 <= interval.high for interval in intervals)
    assert 0.86 <= covered / 400 <= 0.94


def test_a_difference_of_nothing_has_the_closed_form_of_tango() -> None:
    squared = stats.norm.ppf(0.975) ** 2
    found = difference_interval(0, 0, 44, confidence=0.95)
    assert (found.low, found.high) == pytest.approx((-squared / (44 + squared), squared / (44 + squared)), rel=1e-6)


def test_no_samples_and_unpaired_samples_are_refused() -> None:
    with pytest.raises(ValueError, match="paired"):
        non_inferiority(np.ones(0, bool), np.ones(0, bool), margin=0.01, alpha=0.05)
    with pytest.raises(ValueError, match="paired"):
        non_inferiority(np.ones(3, bool), np.ones(4, bool), margin=0.01, alpha=0.05)


def test_a_large_set_is_judged_as_well() -> None:
    assert run(10_000, 120, 100).verdict is Verdict.PASS
