"""Exact one-sided tests of two models whose scores on the same samples lie anywhere from 0 to 1.

The paired differences ``d`` (candidate less reference) lie in [-1, 1]. Against the null hypothesis that their mean is
``-margin`` or less one bets on every sample: a stake ``c`` turns a capital of 1 into the product of
``1 - c + c (1 + d) / (1 - margin)``, whose mean under the null is at most 1. The capital of several stakes together is
then above 1 / alpha with a probability of at most alpha, at any number of samples and whatever the differences'
distribution. The stakes are fixed beforehand, so the order of the samples does not matter.

Source: Waudby-Smith and Ramdas, Estimating means of bounded random variables by betting, JRSS B 86 (2024).
"""

import math
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from scipy import optimize, special, stats

from registry.records.benchmark import Interval

Floats = npt.NDArray[np.float64]

_STAKES = 2.0 ** -np.arange(10)
"""All of it, which is best without losses, down to a thousandth, which is best where differences are large."""

_SHARES = np.array([1 / 3, *[2 / 27] * 9])
"""Of the first capital for each stake: the largest one decides how few samples a flawless candidate needs."""

_SIMULATIONS = 200
_BLOCK = 1_000_000


def bounded_p_value(differences: Floats, margin: float) -> float:
    """Return the p-value of the null hypothesis that the mean difference is ``-margin`` or less.

    Args:
        differences: [samples] in [-1, 1], the candidate's score less the reference's.
        margin: from above -1 to below 1.
    """
    return min(1.0, math.exp(-_log_capital(1 + differences, 1 - margin)))


def bounded_worse_p_value(differences: Floats, margin: float) -> float:
    """Return the p-value of the null hypothesis that the mean difference is ``-margin`` or more."""
    return bounded_p_value(-differences, -margin)


def bounded_interval(differences: Floats, *, confidence: float) -> Interval:
    """Return the mean of differences in [-1, 1] with its interval: the means that neither test refutes."""
    alpha = (1 - confidence) / 2
    mean = float(np.mean(differences))
    low, high = _lower(differences, mean, alpha), -_lower(-differences, -mean, alpha)
    return Interval(estimate=mean, low=min(low, mean), high=max(high, mean), confidence=confidence)


@lru_cache
def bounded_samples_required(margin: float, alpha: float) -> int:
    """Return the least number of samples with which a candidate passes whose every score equals the reference's."""
    gain = np.log1p(_STAKES * margin / (1 - margin))

    def capital(samples: float) -> float:
        return float(special.logsumexp(samples * gain, b=_SHARES)) + math.log(alpha)

    return math.ceil(optimize.brentq(capital, 0, math.log(3 / alpha) / gain[0]) - 1e-6)


def bounded_power(differences: Floats, samples: int, margin: float, alpha: float, *, seed: int = 0) -> float:
    """Return the probability that a candidate as good as the reference passes, whose differences are of this size.

    It is simulated: differences are drawn from those given, each with a coin flip for its sign.
    """
    if not differences.any():
        return float(samples >= bounded_samples_required(margin, alpha))
    generator = np.random.default_rng(seed)
    passed = 0
    for _ in range(_SIMULATIONS):
        drawn = generator.choice(differences, size=samples) * generator.choice((-1.0, 1.0), size=samples)
        passed += bounded_p_value(drawn, margin) <= alpha
    return passed / _SIMULATIONS


def bounded_samples_for_power(differences: Floats, margin: float, alpha: float, *, wanted: float) -> int:
    """Return about how many samples it takes until such a candidate passes with some probability.

    The logarithm of the best stake's capital grows by a mean and a deviation a sample; by the central limit theorem it
    then is above the bound with the probability wanted.
    """
    if not differences.any():
        return bounded_samples_required(margin, alpha)
    both = np.concatenate([differences, -differences])
    growth = np.log(np.maximum(1 + _STAKES * ((1 + both[:, None]) / (1 - margin) - 1), 1e-300))
    mean, deviation = growth.mean(axis=0), growth.std(axis=0)
    quantile = float(stats.norm.ppf(wanted))
    bounds = np.log(1 / (alpha * _SHARES))
    needed = [
        ((quantile * spread + math.sqrt((quantile * spread) ** 2 + 4 * rate * bound)) / (2 * rate)) ** 2
        for rate, spread, bound in zip(mean, deviation, bounds, strict=True)
        if rate > 0
    ]
    # No stake grows where the margin is nothing beside the differences: the smallest one tells the order of size.
    least = min(needed, default=float(bounds[-1]) * 2 * float(np.mean(differences**2)) / margin**2)
    return max(bounded_samples_required(margin, alpha), math.ceil(least))


def _log_capital(values: Floats, null_mean: float) -> float:
    """The logarithm of what all stakes together have made, betting that values >= 0 have a larger mean than this."""
    total = np.zeros(len(_STAKES))
    with np.errstate(divide="ignore"):
        for start in range(0, len(values), _BLOCK // len(_STAKES)):
            part = values[start : start + _BLOCK // len(_STAKES), None]
            total += np.log(np.maximum(1 - _STAKES + _STAKES * part / null_mean, 0)).sum(axis=0)
    return float(special.logsumexp(total, b=_SHARES))


def _lower(differences: Floats, mean: float, alpha: float) -> float:
    """The smallest mean that is not refuted at alpha."""
    bound = math.log(1 / alpha)

    def beyond(candidate: float) -> float:
        # Without a bound the search for a root would meet infinities.
        return max(-1e3, min(1e3, _log_capital(1 + differences, 1 + candidate))) - bound

    lowest = -1 + 1e-9
    if mean <= lowest or beyond(lowest) <= 0:
        return -1.0
    return float(optimize.brentq(beyond, lowest, mean, xtol=1e-6))
