"""Two sessions in turns: like ones are not told apart, unlike ones are."""

import numpy as np
import pytest
from scipy import stats

from tasks.bench.compare import Speed, compare
from tests.unit.tasks.bench.test_intervals import autocorrelated


def pair(seed: int, rounds: int = 60, factor: float = 1.0) -> tuple[object, object]:
    """Two sessions on one moody machine, the second slower by a factor; who goes first is a coin flip."""
    generator = np.random.default_rng(seed)
    slots = autocorrelated(2 * rounds, 5, seed=seed).reshape(rounds, 2, 5)
    first = generator.integers(2, size=rounds)
    return slots[np.arange(rounds), first], factor * slots[np.arange(rounds), 1 - first]


def p_values(simulations: int, offset: int = 0) -> list[float]:
    return [compare(*pair(seed + offset)).p_value for seed in range(simulations)]  # type: ignore[arg-type]


def test_an_a_a_run_is_called_different_no_more_often_than_alpha() -> None:
    rejected = sum(p <= 0.05 for p in p_values(120))
    assert stats.binom.sf(rejected - 1, 120, 0.05) > 0.001, f"{rejected} of 120"


def test_like_sessions_are_hardly_ever_called() -> None:
    called = sum(compare(*pair(seed)).speed is not Speed.CANNOT_TELL for seed in range(120))  # type: ignore[arg-type]
    assert called <= 12


@pytest.mark.slow
def test_the_p_value_is_uniform_for_like_sessions() -> None:
    assert stats.kstest(p_values(2000, offset=10_000), "uniform").pvalue > 0.001


@pytest.mark.parametrize(("factor", "speed"), [(0.7, Speed.FASTER), (1.4, Speed.SLOWER)])
def test_unlike_sessions_are_told_apart(factor: float, speed: Speed) -> None:
    found = [compare(*pair(seed, factor=factor)) for seed in range(20)]  # type: ignore[arg-type]
    assert all(one.speed is speed for one in found)
    assert sum(one.ratio.low <= factor <= one.ratio.high for one in found) >= 15


def test_a_difference_below_the_resolution_is_not_called() -> None:
    steady = np.random.default_rng(0).normal(1, 1e-4, size=(200, 5))
    found = compare(steady, 1.01 * steady)
    assert found.p_value < 1e-6 and found.speed is Speed.CANNOT_TELL
    assert compare(steady, 1.03 * steady).speed is Speed.SLOWER


def test_identical_times_cannot_be_told_apart() -> None:
    same = np.ones((30, 5))
    found = compare(same, same, batch_size=8)
    assert (found.p_value, found.speed, found.batch_size, found.ratio.estimate) == (1, Speed.CANNOT_TELL, 8, 1)


def test_calls_a_round_may_differ_but_rounds_may_not() -> None:
    assert compare(np.ones((30, 5)), 2 * np.ones((30, 2))).speed is Speed.SLOWER
    with pytest.raises(ValueError, match="same rounds"):
        compare(np.ones((30, 5)), np.ones((29, 5)))
