"""Arms: intervals hold together at every look; what is better is found, what is equal is not called otherwise."""

import numpy as np
import pytest

from registry.records.experiment import ArmVerdict
from tasks.gates.arms import compare_arms


def coins(seed: int, chance: float, tosses: int) -> np.ndarray:
    return np.random.default_rng(seed).binomial(1, chance, tosses).astype(np.float64)


def test_an_arm_that_is_better_and_one_that_is_worse_are_told_from_one_that_is_equal() -> None:
    arms = {1: coins(1, 0.7, 3000), 2: coins(2, 0.85, 3000), 3: coins(3, 0.5, 3000), 4: coins(4, 0.7, 3000)}
    found = compare_arms(arms, 1, confidence=0.95)
    assert {version: one.verdict for version, one in found.items()} == {
        1: ArmVerdict.CONTROL,
        2: ArmVerdict.BETTER,
        3: ArmVerdict.WORSE,
        4: ArmVerdict.UNDECIDED,
    }
    better = found[2].difference
    assert better is not None
    assert better.low < 0.15 < better.high
    assert better.estimate == pytest.approx(arms[2].mean() - arms[1].mean())
    assert found[1].difference is None


def test_without_scores_nothing_is_decided() -> None:
    nothing = np.zeros(0)
    found = compare_arms({1: nothing, 2: np.ones(5)}, 1, confidence=0.95)
    assert (found[1].mean, found[2].difference, found[2].verdict) == (None, None, ArmVerdict.UNDECIDED)
    assert found[2].mean is not None
    few = compare_arms({1: np.zeros(3), 2: np.ones(3)}, 1, confidence=0.95)
    assert few[2].verdict is ArmVerdict.UNDECIDED, "three requests tell nothing"


def test_one_may_look_as_often_as_one_likes() -> None:
    """Equal arms, looked at every eighty requests: of forty experiments, at most five ever call one better or worse.

    With an alpha of 0.05 more than five have a probability of 0.014 (binomial); the intervals are wider than needed.
    """
    wrong = 0
    for seed in range(40):
        arms = {version: coins(10 * seed + version, 0.6, 400) for version in (1, 2, 3)}
        looks = (
            compare_arms({version: scores[:size] for version, scores in arms.items()}, 1, confidence=0.95)
            for size in range(80, 401, 80)
        )
        wrong += any(one.verdict in (ArmVerdict.BETTER, ArmVerdict.WORSE) for look in looks for one in look.values())
    assert wrong <= 5


def test_more_arms_and_more_confidence_make_wider_intervals() -> None:
    scores = coins(1, 0.6, 500)

    def width(arms: int, confidence: float) -> float:
        mean = compare_arms(dict.fromkeys(range(1, arms + 1), scores), 1, confidence=confidence)[1].mean
        assert mean is not None
        return mean.high - mean.low

    assert width(2, 0.95) < width(6, 0.95)
    assert width(2, 0.9) < width(2, 0.99)
