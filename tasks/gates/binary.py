"""Exact one-sided tests of two models that are right or wrong on the same samples.

Of ``n`` samples, ``b`` losses (the reference right, the candidate wrong) and ``c`` wins; the rest are ties. The null
hypothesis is that losses are more likely than wins by the margin or more. The test is exact and unconditional: outcomes
are ordered by the score statistic, and the p-value is the largest probability, over every rate of wins that the null
leaves open, of an outcome at least as extreme. The opposite test, whether the candidate is worse by more than the
margin, orders the same outcomes the other way.

Source: Tango, Equivalence test and confidence interval for the difference in proportions for the paired-sample design,
Statistics in Medicine 17 (1998), for the statistic and the interval; Sidik, Exact unconditional tests for testing
non-inferiority in matched-pairs design, Statistics in Medicine 22 (2003), for the p-value.
"""

import math
from collections.abc import Callable
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from scipy import optimize, special, stats

from registry.records.benchmark import Interval

Floats = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]

_GRID = 200
"""Rates of wins at which the p-value is evaluated; the best is then refined between its neighbours."""

_TAIL_DEVIATIONS = 9
"""Binomial mass further from its mean than this many standard deviations (below 1e-18) is left out."""

_SLACK = 1e-9
"""Outcomes whose statistics differ by less than this are ties, as exact arithmetic would find them."""


@lru_cache
def samples_required(margin: float, alpha: float) -> int:
    """Return the least number of samples with which a candidate without losses or wins passes.

    At alpha .05 it is ln(alpha) / ln(1 - margin), 299 samples for a margin of one point; at a smaller alpha it is
    somewhat more, as the exact test also holds where nearly every sample is a loss or a win.
    """
    low = math.ceil(math.log(alpha) / math.log1p(-margin)) - 1
    high = low + 1
    while exact_p_value(0, 0, high, margin) > alpha:
        low, high = high, high + max(1, high // 8)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if exact_p_value(0, 0, middle, margin) <= alpha else (middle, high)
    return high


def sign_p_value(losses: int, wins: int) -> float:
    """Return the exact one-sided sign test's p-value that losses outnumber wins by chance."""
    return float(stats.binom.sf(losses - 1, losses + wins, 0.5))


def exact_p_value(losses: int, wins: int, samples: int, margin: float) -> float:
    """Return the p-value of the null hypothesis that losses less wins are the margin or more."""
    observed = float(_score(np.array(losses), np.array(wins), samples, margin))
    return _largest_tail(observed, samples, margin)


def worse_p_value(losses: int, wins: int, samples: int, margin: float) -> float:
    """Return the p-value of the null hypothesis that losses less wins are the margin or less."""
    observed = float(_score(np.array(losses), np.array(wins), samples, margin))
    # The outcomes that are left are those above the observed one, which itself is among the extreme.
    need = _wins_needed(observed + 2 * _SLACK, samples, margin)
    return _largest(lambda rate: 1 - _tail_probability(rate + margin, rate, need, samples), margin)


def power(discordance: float, samples: int, margin: float, alpha: float) -> float:
    """Return the probability that a candidate as good as the reference passes.

    Args:
        discordance: the share of samples on which just one of the two is right; losses and wins are each half of it.
        samples: of the set.
        margin: of the test.
        alpha: of the test.
    """
    if discordance == 0:
        return float(samples >= samples_required(margin, alpha))
    need = _wins_needed(_critical_score(samples, margin, alpha), samples, margin)
    return min(1.0, _tail_probability(discordance / 2, discordance / 2, need, samples))


def samples_for_power(discordance: float, margin: float, alpha: float, *, wanted: float) -> int:
    """Return about how many samples it takes until a candidate as good as the reference passes with some probability.

    Source: Lu and Bean, On the sample size for one-sided equivalence of sensitivities based upon McNemar's test,
    Statistics in Medicine 14 (1995).
    """
    under_null = _deviation(np.array(discordance / 2), np.array(discordance / 2), 1, margin)
    deviations = stats.norm.ppf(1 - alpha) * float(under_null) + stats.norm.ppf(wanted) * math.sqrt(discordance)
    return max(samples_required(margin, alpha), math.ceil((deviations / margin) ** 2))


@lru_cache
def _critical_score(samples: int, margin: float, alpha: float) -> float:
    """The score from which on the exact test passes, up to a hundredth."""
    low, high = 0.0, float(_score(np.array(0), np.array(samples), samples, margin))
    while high - low > 0.01:
        middle = (low + high) / 2
        low, high = (low, middle) if _largest_tail(middle, samples, margin) <= alpha else (middle, high)
    return high


def _largest_tail(threshold: float, samples: int, margin: float) -> float:
    """The largest probability, over every rate of wins at the null's boundary, of a score that reaches a threshold."""
    need = _wins_needed(threshold, samples, margin)
    return _largest(lambda rate: _tail_probability(rate + margin, rate, need, samples), margin)


def _largest(probability: Callable[[float], float], margin: float) -> float:
    """The maximum over every rate of wins that the margin leaves room for."""
    # The probability changes fastest near a rate of 0: a cubic grid is densest there.
    rates = (1 - margin) / 2 * np.linspace(0, 1, _GRID) ** 3
    found = [probability(rate) for rate in rates]
    best = int(np.argmax(found))
    low, high = rates[max(best - 1, 0)], rates[min(best + 1, _GRID - 1)]
    refined = optimize.minimize_scalar(lambda rate: -probability(rate), bounds=(low, high), method="bounded")
    return min(1.0, max(0.0, found[best], -float(refined.fun)))


def _score(losses: Counts, wins: Counts, samples: int, margin: float) -> Floats:
    """Tango's score statistic at the null's boundary; it grows with wins and shrinks with losses."""
    return (wins - losses + samples * margin) / _deviation(losses, wins, samples, margin)


def _deviation(losses: Counts | Floats, wins: Counts | Floats, samples: int, margin: float) -> Floats:
    """The standard deviation of wins less losses, if losses were more likely by just the margin."""
    linear = (losses + wins) * (1 - margin) - 2 * margin * (samples - losses)
    # The most likely rate of wins at the boundary.
    rate = (linear + np.sqrt(linear**2 + 8 * samples * wins * margin * (1 - margin))) / (4 * samples)
    return np.asarray(np.sqrt(samples * (2 * rate + margin - margin**2)), dtype=np.float64)


def _wins_needed(observed: float, samples: int, margin: float) -> Counts:
    """For each number of losses, the fewest wins as extreme as observed; samples + 1 where none are enough."""
    losses = np.arange(samples + 1)
    low, high = np.zeros(samples + 1, dtype=np.int64), samples - losses + 1
    for _ in range(samples.bit_length() + 1):
        middle = (low + high) // 2
        enough = _score(losses, np.minimum(middle, samples - losses), samples, margin) >= observed - _SLACK
        open_ = low < high
        high = np.where(open_ & enough, middle, high)
        low = np.where(open_ & ~enough, middle + 1, low)
    return np.where(low <= samples - losses, low, samples + 1)


def _tail_probability(loss_rate: float, win_rate: float, need: Counts, samples: int) -> float:
    """The probability of an outcome with enough wins, at these rates of losses and wins."""
    spread = _TAIL_DEVIATIONS * math.sqrt(samples * loss_rate * (1 - loss_rate)) + 2 * _TAIL_DEVIATIONS
    first, last = max(0, int(samples * loss_rate - spread)), min(samples, int(samples * loss_rate + spread))
    losses = np.arange(first, last + 1)
    losses = losses[need[losses] <= samples]
    others = samples - losses
    log_ways = special.gammaln(samples + 1) - special.gammaln(losses + 1) - special.gammaln(others + 1)
    these_losses = np.exp(log_ways + losses * math.log(loss_rate) + others * math.log1p(-loss_rate))
    # Given the losses, wins are binomial among the other samples; bdtrc(k, ...) is the probability of more than k.
    among_others = min(1.0, win_rate / (1 - loss_rate))
    enough = np.where(need[losses] > 0, special.bdtrc(need[losses] - 1, others, among_others), 1.0)
    return float(np.sum(these_losses * enough))


def difference_interval(losses: int, wins: int, samples: int, *, confidence: float) -> Interval:
    """Return the candidate's score less the reference's with Tango's score interval, as shares of samples."""
    estimate = (wins - losses) / samples
    quantile = float(stats.norm.ppf((1 + confidence) / 2))

    def standardized(difference: float) -> float:
        """The score statistic of the null hypothesis that the difference is this one; falls as that grows."""
        margin = min(max(abs(difference), _SLACK), 1 - _SLACK)
        if difference <= 0:
            return float(_score(np.array(losses), np.array(wins), samples, margin))
        return -float(_score(np.array(wins), np.array(losses), samples, margin))

    def crossing(level: float, end: float) -> float:
        """Where the statistic takes this level between the estimate and an end of the scale."""
        if (standardized(end) - level) * (standardized(estimate) - level) >= 0:
            return end
        return float(optimize.brentq(lambda difference: standardized(difference) - level, end, estimate))

    low, high = crossing(quantile, _SLACK - 1), crossing(-quantile, 1 - _SLACK)
    return Interval(estimate=estimate, low=min(low, estimate), high=max(high, estimate), confidence=confidence)
