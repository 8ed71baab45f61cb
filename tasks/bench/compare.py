"""Tell whether one session is faster than another, from a measurement in which they took turns.

In every round the sessions run in random order. If two are alike, which of the two times of a round belongs to which is
a coin flip, whatever else the machine did: the signed-rank test on the rounds' differences then holds its alpha however
much the rounds depend on one another.

Source: Wilcoxon, Individual comparisons by ranking methods, Biometrics 1 (1945); Fisher, The design of experiments
(1935), for inference from the random order itself.
"""

from enum import StrEnum

import numpy as np
from pydantic import Field
from scipy import stats

from registry.records.base import Record
from registry.records.benchmark import Interval
from tasks.bench.intervals import Floats, intervals, resampled_rounds

RESOLUTION = 0.02
"""A difference is called if its whole interval is larger: where a session's memory lies changes its speed by about this
much from load to load. Source: Mytkowicz et al., Producing wrong data without doing anything obviously wrong, ASPLOS
2009."""


class Speed(StrEnum):
    """How a candidate's latency stands to the baseline's."""

    FASTER = "faster"
    SLOWER = "slower"
    CANNOT_TELL = "cannot tell"


class SpeedDifference(Record):
    """A candidate beside the baseline, from the same rounds."""

    batch_size: int = Field(ge=1)
    ratio: Interval = Field(description="Candidate's latency over the baseline's: the median of the rounds.")
    p_value: float = Field(ge=0, le=1, description="Of the hypothesis that the two are alike; two-sided.")
    speed: Speed


def compare(
    baseline_ms: Floats, candidate_ms: Floats, *, batch_size: int = 1, alpha: float = 0.05, seed: int = 0
) -> SpeedDifference:
    """Compare two sessions by round.

    Args:
        baseline_ms: [rounds, calls], the time of each call.
        candidate_ms: [rounds, calls], from the same rounds; the number of calls may differ.
        batch_size: samples a call.
        alpha: the probability of calling two like sessions different.
        seed: of the bootstrap.

    Raises:
        ValueError: the two were not measured in the same rounds.
    """
    if len(baseline_ms) != len(candidate_ms):
        raise ValueError(f"sessions compared need the same rounds, got {len(baseline_ms)} and {len(candidate_ms)}")
    logs = np.log(np.median(candidate_ms, axis=1) / np.median(baseline_ms, axis=1))
    draws = resampled_rounds(len(logs), seed=seed)
    (ratio,) = intervals(logs, draws, lambda values: (float(np.exp(np.median(values))),))
    p_value = float(stats.wilcoxon(logs).pvalue) if logs.any() else 1.0
    speed = Speed.CANNOT_TELL
    if p_value <= alpha and ratio.high < 1 - RESOLUTION:
        speed = Speed.FASTER
    elif p_value <= alpha and ratio.low > 1 + RESOLUTION:
        speed = Speed.SLOWER
    return SpeedDifference(batch_size=batch_size, ratio=ratio, p_value=p_value, speed=speed)
