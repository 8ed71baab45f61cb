"""Paired tests on the same samples: is a candidate not worse than a reference by a margin, is it worse by more.

Where a sample is right or wrong the tests are those of ``binary``; where it has a score from 0 to 1, those of
``betting``. Both hold their alpha exactly, at any number of samples.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from registry.records.benchmark import Interval
from registry.records.gate import PairedTest, Verdict
from tasks.gates import betting, binary

Flags = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]
Scores = Flags | Floats

ENOUGH_POWER = 0.8
"""Source: Cohen, Statistical power analysis for the behavioral sciences (1988): the power usually asked of a study."""


def non_inferiority(reference: Scores, candidate: Scores, *, margin: float, alpha: float) -> PairedTest:
    """Test whether a candidate is not worse than a reference by a margin, on the same samples.

    The verdict is ``pass`` if p <= alpha. Otherwise it is ``fail`` if the candidate is worse for certain (at alpha), or
    if a candidate as good as the reference, differing from it as often, would have passed with 80 %. Else the samples
    were too few: ``cannot tell``.

    Args:
        reference: [samples] booleans, where the reference is right, or its scores in [0, 1].
        candidate: [samples], the same of the candidate.
        margin: the mean score, or share of samples, that may be lost.
        alpha: the probability of passing a candidate that is worse by the margin.

    Raises:
        ValueError: the arrays have no samples or unequal numbers of them.
    """
    pairs = _pairs(reference, candidate)
    p_value, power = pairs.p_value(margin), pairs.power(margin, alpha)
    verdict = Verdict.CANNOT_TELL
    if p_value <= alpha:
        verdict = Verdict.PASS
    elif power >= ENOUGH_POWER or pairs.surely_worse(alpha):
        verdict = Verdict.FAIL
    return pairs.record(margin, alpha, p_value, power, verdict)


def inferiority(reference: Scores, candidate: Scores, *, margin: float, alpha: float) -> PairedTest:
    """Test whether a candidate is worse than a reference by more than a margin, on the same samples.

    The verdict is ``fail`` if it is for certain (at alpha), ``pass`` if it is not worse by the margin for certain, and
    else ``cannot tell``. The p-value is that of the first question; the rest is as of ``non_inferiority``.

    Raises:
        ValueError: the arrays have no samples or unequal numbers of them.
    """
    pairs = _pairs(reference, candidate)
    p_value = pairs.worse_p_value(margin)
    verdict = Verdict.CANNOT_TELL
    if p_value <= alpha:
        verdict = Verdict.FAIL
    elif pairs.p_value(margin) <= alpha:
        verdict = Verdict.PASS
    return pairs.record(margin, alpha, p_value, pairs.power(margin, alpha), verdict)


def worse_p_value(reference: Scores, candidate: Scores, *, margin: float) -> float:
    """Return the p-value of the null hypothesis that a candidate is worse than a reference by the margin or less.

    Raises:
        ValueError: the arrays have no samples or unequal numbers of them.
    """
    pairs = _pairs(reference, candidate)
    return pairs.worse_p_value(margin) if pairs.losses else 1.0


@dataclass(frozen=True)
class _Pairs:
    """What both kinds of scores can be asked."""

    samples: int
    losses: int
    wins: int
    p_value: Callable[[float], float]
    worse_p_value: Callable[[float], float]
    surely_worse: Callable[[float], bool]
    power: Callable[[float, float], float]
    required: Callable[[float, float], tuple[int, int]]
    interval: Callable[[float], Interval]

    def record(self, margin: float, alpha: float, p_value: float, power: float, verdict: Verdict) -> PairedTest:
        required, for_power = self.required(margin, alpha)
        return PairedTest(
            samples=self.samples,
            losses=self.losses,
            wins=self.wins,
            difference=self.interval(1 - 2 * alpha),
            margin=margin,
            alpha=alpha,
            p_value=p_value,
            verdict=verdict,
            samples_required=required,
            power=power,
            samples_for_power=for_power,
        )


def _pairs(reference: Scores, candidate: Scores) -> _Pairs:
    if reference.shape != candidate.shape or reference.size == 0:
        raise ValueError(f"paired samples needed, got {reference.shape} and {candidate.shape}")
    if reference.dtype == np.bool_ and candidate.dtype == np.bool_:
        return _right_or_wrong(reference.astype(bool), candidate.astype(bool))
    return _scored(candidate.astype(np.float64) - reference.astype(np.float64))


def _right_or_wrong(reference: Flags, candidate: Flags) -> _Pairs:
    samples = int(reference.size)
    losses, wins = int(np.sum(reference & ~candidate)), int(np.sum(~reference & candidate))
    discordance = (losses + wins) / samples
    return _Pairs(
        samples=samples,
        losses=losses,
        wins=wins,
        p_value=lambda margin: binary.exact_p_value(losses, wins, samples, margin),
        worse_p_value=lambda margin: binary.worse_p_value(losses, wins, samples, margin),
        surely_worse=lambda alpha: binary.sign_p_value(losses, wins) <= alpha,
        power=lambda margin, alpha: binary.power(discordance, samples, margin, alpha),
        required=lambda margin, alpha: (
            binary.samples_required(margin, alpha),
            binary.samples_for_power(discordance, margin, alpha, wanted=ENOUGH_POWER),
        ),
        interval=lambda confidence: binary.difference_interval(losses, wins, samples, confidence=confidence),
    )


def _scored(differences: Floats) -> _Pairs:
    return _Pairs(
        samples=int(differences.size),
        losses=int(np.sum(differences < 0)),
        wins=int(np.sum(differences > 0)),
        p_value=lambda margin: betting.bounded_p_value(differences, margin),
        worse_p_value=lambda margin: betting.bounded_worse_p_value(differences, margin),
        surely_worse=lambda alpha: betting.bounded_worse_p_value(differences, 0.0) <= alpha,
        power=lambda margin, alpha: betting.bounded_power(differences, differences.size, margin, alpha),
        required=lambda margin, alpha: (
            betting.bounded_samples_required(margin, alpha),
            betting.bounded_samples_for_power(differences, margin, alpha, wanted=ENOUGH_POWER),
        ),
        interval=lambda confidence: betting.bounded_interval(differences, confidence=confidence),
    )
