"""The rules: what passes, what does not, and what the reason says."""

import numpy as np
import pytest

from registry.errors import InputError
from registry.records.gate import Verdict
from registry.records.optimization import OptimizationConfig
from tasks.gates.numerics import compare
from tasks.gates.rules import fidelity, not_worse_than_champion
from tasks.gates.score import judge
from tasks.optimizer.dataset import Dataset

CONFIG = OptimizationConfig()


def scores(samples: int, wrong: int) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    """[samples, 2] whose largest is class 0, but class 1 in the first ``wrong`` samples."""
    found = np.tile(np.array([1, 0], np.float32), (samples, 1))
    found[:wrong] = [0, 1]
    return found


def ask_fidelity(samples: int, wrong: int) -> tuple[Verdict, str]:
    source, candidate = scores(samples, 0), scores(samples, wrong)
    candidate += 0.01
    judged = judge("top1", {"y": source}, {"y": candidate}, np.zeros(samples, np.int64))
    outcome = fidelity(compare({"y": source}, {"y": candidate}), judged, margin=0.01, alpha=0.05)
    assert outcome.rule == "fidelity" and outcome.test is not None
    return outcome.verdict, outcome.reason


def test_equal_outputs_pass_at_any_number_of_samples() -> None:
    source = scores(5, 0)
    judged = judge("top1", {"y": source}, {"y": source}, None)
    outcome = fidelity(compare({"y": source}, {"y": source}), judged, margin=0.01, alpha=0.05)
    assert outcome.verdict is Verdict.PASS
    assert "equal to the source within float tolerance on each of 5 samples" in outcome.reason


def test_few_samples_cannot_tell_and_name_how_many_are_needed() -> None:
    verdict, reason = ask_fidelity(40, 0)
    assert verdict is Verdict.CANNOT_TELL
    assert "too few samples to tell: at least 299 are needed" in reason


def test_a_faithful_candidate_passes_and_an_unfaithful_one_fails_with_its_figures() -> None:
    assert ask_fidelity(898, 2)[0] is Verdict.PASS
    verdict, reason = ask_fidelity(898, 41)
    assert verdict is Verdict.FAIL
    assert reason.startswith(
        "lost 41 and won 0 of 898 samples: -4.6 points (90% interval -5.9 to -3.6), margin 1 point, p = 1"
    )


def ask_champion(champion_wrong: int, contender_wrong: int, labels: bool = True) -> tuple[Verdict, str]:
    dataset = Dataset({"x": np.zeros((500, 1))}, np.zeros(500, np.int64) if labels else None)
    champion, contender = scores(500, champion_wrong), scores(500, contender_wrong)
    (outcome,) = not_worse_than_champion("the new evaluation set", dataset, {"a": champion}, {"b": contender}, CONFIG)
    assert outcome.rule == "not_worse_than_champion" and outcome.figures["samples"] == 500
    return outcome.verdict, outcome.reason


def test_a_better_model_passes_and_a_worse_one_fails() -> None:
    assert ask_champion(20, 5)[0] is Verdict.PASS
    assert ask_champion(20, 20)[0] is Verdict.PASS
    verdict, reason = ask_champion(5, 40)
    assert verdict is Verdict.FAIL
    assert reason.startswith("on the new evaluation set: lost 35 and won 0 of 500 samples: -7.0 points")


def test_without_labels_the_champion_is_right() -> None:
    assert ask_champion(20, 5, labels=False)[0] is Verdict.FAIL
    assert ask_champion(20, 20, labels=False)[0] is Verdict.PASS


def test_labels_that_the_model_cannot_give_are_refused() -> None:
    dataset = Dataset({"x": np.zeros((3, 1))}, np.array([0, 1, 2]))
    with pytest.raises(InputError, match="has 2 classes"):
        not_worse_than_champion("the set", dataset, {"y": scores(3, 0)}, {"y": scores(3, 0)}, CONFIG)
