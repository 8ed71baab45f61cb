"""How much is tried: the whole, or a short form that tests run."""

from math import sqrt

from scipy import stats

from registry.records.base import Record


class Scale(Record):
    """Repeats of everything that is repeated."""

    simulations: int
    sizes: tuple[int, ...]
    """Samples of the sets that are simulated."""
    slice_simulations: int
    planted: int
    """Times that answers of a real model are flipped."""
    epochs: int | None
    """Of the real model's training; None: all."""
    a_a_runs: int
    a_a_seconds: float
    a_a_allowed: int
    """Of these runs that may call the same artifact different."""
    fronts: int
    front_seconds: float
    all_candidates: bool


WHOLE = Scale(
    simulations=1000,
    sizes=(320, 1000, 3000),
    slice_simulations=200,
    planted=200,
    epochs=None,
    a_a_runs=100,
    a_a_seconds=2.0,
    a_a_allowed=5,
    fronts=10,
    front_seconds=12.0,
    all_candidates=True,
)
SHORT = Scale(
    simulations=60,
    sizes=(320, 1000),
    slice_simulations=10,
    planted=10,
    epochs=2,
    a_a_runs=3,
    a_a_seconds=0.5,
    a_a_allowed=1,
    fronts=2,
    front_seconds=1.0,
    all_candidates=False,
)


def most_by_chance(share: float, repeats: int) -> float:
    """The share that is exceeded with a probability of .001 where this one is true."""
    return float(stats.binom.ppf(0.999, repeats, share)) / repeats


def least_by_chance(share: float, repeats: int) -> float:
    """The share that is missed with a probability of .001 where this one is true."""
    return float(stats.binom.ppf(0.001, repeats, share)) / repeats


def noise(repeats: int) -> float:
    """Three standard errors of a share of one half, the least certain."""
    return 1.5 / sqrt(repeats)
