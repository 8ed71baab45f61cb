"""Arms of an experiment beside its control: independent requests, each with a score from 0 to 1.

Each arm's mean has an interval by betting, valid at any number of requests, so that one may look as often as one likes
and end when one likes. The intervals of all k arms hold together with the confidence asked for, by Bonferroni's
inequality: each has the confidence 1 - (1 - confidence) / k, and two of them bound the difference of their means.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from registry.records.benchmark import Interval
from registry.records.experiment import ArmVerdict
from tasks.gates.score import score_interval

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Comparison:
    """What is known of one arm."""

    mean: Interval | None
    difference: Interval | None
    verdict: ArmVerdict


def compare_arms(scores: Mapping[int, Floats], control: int, *, confidence: float) -> dict[int, Comparison]:
    """Compare every arm's mean score with the control's.

    Args:
        scores: by version, [requests] from 0 to 1; the control's among them.
        control: the version that the others are held against.
        confidence: that all statements hold together, at every look.
    """
    each = 1 - (1 - confidence) / len(scores)
    means = {
        version: score_interval(found.astype(np.float64), confidence=each) if len(found) else None
        for version, found in scores.items()
    }
    compared = {}
    for version, mean in means.items():
        difference = None if version == control else _difference(mean, means[control], confidence)
        verdict = ArmVerdict.CONTROL if version == control else _verdict(difference)
        compared[version] = Comparison(mean, difference, verdict)
    return compared


def _difference(arm: Interval | None, control: Interval | None, confidence: float) -> Interval | None:
    if arm is None or control is None:
        return None
    return Interval(
        estimate=arm.estimate - control.estimate,
        low=arm.low - control.high,
        high=arm.high - control.low,
        confidence=confidence,
    )


def _verdict(difference: Interval | None) -> ArmVerdict:
    if difference is not None and difference.low > 0:
        return ArmVerdict.BETTER
    if difference is not None and difference.high < 0:
        return ArmVerdict.WORSE
    return ArmVerdict.UNDECIDED
