"""The test of scores from 0 to 1: its level, its intervals, its power, and where it meets known values."""

import itertools
import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from registry.records.gate import PairedTest, Verdict
from tasks.gates.betting import (
    bounded_interval,
    bounded_p_value,
    bounded_power,
    bounded_samples_for_power,
    bounded_samples_required,
    bounded_worse_p_value,
)
from tasks.gates.paired import inferiority, non_inferiority

Floats = npt.NDArray[np.float64]
Draw = Callable[[np.random.Generator, int, float], Floats]


def rare_total_losses(generator: np.random.Generator, samples: int, mean: float) -> Floats:
    """The hardest: nothing but total losses, as few as the mean asks for."""
    return np.where(generator.random(samples) < -mean, -1.0, 0.0)


def losses_and_wins(generator: np.random.Generator, samples: int, mean: float) -> Floats:
    return generator.choice([-1.0, 0.0, 1.0], size=samples, p=[0.05 - mean, 0.9 + mean, 0.05])


def small_noise(generator: np.random.Generator, samples: int, mean: float) -> Floats:
    return mean + generator.uniform(-0.05, 0.05, size=samples)


DRAWS: tuple[Draw, ...] = (rare_total_losses, losses_and_wins, small_noise)


def share(simulations: int, found: Callable[[np.random.Generator], bool]) -> int:
    generator = np.random.default_rng(0)
    return sum(found(generator) for _ in range(simulations))


@pytest.mark.parametrize("draw", DRAWS)
def test_a_candidate_worse_by_the_margin_passes_no_more_often_than_alpha(draw: Draw) -> None:
    passed = share(300, lambda generator: bounded_p_value(draw(generator, 400, -0.01), 0.01) <= 0.05)
    assert stats.binom.sf(passed - 1, 300, 0.05) > 0.001, f"{passed} of 300 passed"
    called = share(300, lambda generator: bounded_worse_p_value(draw(generator, 400, -0.01), 0.01) <= 0.05)
    assert stats.binom.sf(called - 1, 300, 0.05) > 0.001, f"{called} of 300 called worse"


@pytest.mark.slow
@pytest.mark.parametrize(("draw", "samples", "margin"), list(itertools.product(DRAWS, [60, 400, 2000], [0.01, 0.05])))
def test_the_level_holds_whatever_the_differences(draw: Draw, samples: int, margin: float) -> None:
    passed = share(3_000, lambda generator: bounded_p_value(draw(generator, samples, -margin), margin) <= 0.05)
    assert stats.binom.sf(passed - 1, 3_000, 0.05) > 1e-4, f"{passed} of 3,000 passed"


def test_the_interval_covers_the_mean() -> None:
    for draw in DRAWS:
        intervals = [
            bounded_interval(draw(np.random.default_rng(seed), 200, -0.03), confidence=0.9) for seed in range(150)
        ]
        assert sum(one.low <= -0.03 <= one.high for one in intervals) >= 135


@given(st.lists(st.floats(-1, 1), min_size=1, max_size=60))
@settings(max_examples=60)
def test_the_interval_holds_the_mean_and_mirrors(values: list[float]) -> None:
    differences = np.array(values)
    found, mirrored = (bounded_interval(each, confidence=0.9) for each in (differences, -differences))
    assert found.estimate == pytest.approx(differences.mean())
    assert -1 <= found.low <= found.estimate <= found.high <= 1
    assert (-mirrored.high, -mirrored.low) == pytest.approx((found.low, found.high), abs=1e-4)


def test_equal_scores_pass_from_the_samples_required_on() -> None:
    required = bounded_samples_required(0.01, 0.05)
    assert math.log(0.05) / math.log(0.99) < required < 420
    assert bounded_p_value(np.zeros(required), 0.01) <= 0.05 < bounded_p_value(np.zeros(required - 1), 0.01)


def test_the_order_of_the_samples_does_not_matter() -> None:
    differences = small_noise(np.random.default_rng(3), 300, 0.0)
    assert bounded_p_value(differences, 0.01) == pytest.approx(bounded_p_value(np.sort(differences), 0.01))


@pytest.mark.parametrize("spread", [0.02, 0.2])
def test_with_the_samples_for_power_a_good_candidate_passes_with_about_80_percent(spread: float) -> None:
    differences = np.random.default_rng(0).normal(0, spread, size=2_000).clip(-1, 1)
    samples = bounded_samples_for_power(differences, 0.01, 0.05, wanted=0.8)
    assert 0.7 <= bounded_power(differences, samples, 0.01, 0.05) <= 0.97
    passed = share(
        100, lambda generator: bounded_p_value(generator.normal(0, spread, samples).clip(-1, 1), 0.01) <= 0.05
    )
    assert passed >= 68


def scored(differences: Floats, *, ask: Callable[..., PairedTest] = non_inferiority) -> PairedTest:
    return ask(np.full(differences.size, 0.5), 0.5 + differences / 2, margin=0.01, alpha=0.05)


def test_verdicts() -> None:
    generator = np.random.default_rng(1)
    assert scored(np.zeros(500)).verdict is Verdict.PASS
    assert scored(np.zeros(100)).verdict is Verdict.CANNOT_TELL
    noise = generator.normal(0, 0.02, size=2_000)
    assert scored(noise).verdict is Verdict.PASS
    assert scored(noise - 0.06).verdict is Verdict.FAIL
    assert scored(noise - 0.03).verdict is Verdict.FAIL  # beyond the margin by more than noise, and surely worse
    wide = generator.normal(0, 0.3, size=300)
    found = scored(wide - wide.mean())
    assert (found.verdict, found.losses + found.wins) == (Verdict.CANNOT_TELL, 300)
    assert found.power < 0.5 < 300 < found.samples_for_power


def test_worse_for_certain_and_surely_not() -> None:
    assert scored(np.full(400, -0.2), ask=inferiority).verdict is Verdict.FAIL
    assert scored(np.zeros(500), ask=inferiority).verdict is Verdict.PASS
    assert scored(np.full(10, -0.2), ask=inferiority).verdict is Verdict.CANNOT_TELL
