"""The rules: what passes, what does not, and what the reason says."""

import numpy as np
import pytest

from registry.errors import InputError
from registry.records.gate import Verdict
from registry.records.optimization import OptimizationConfig
from serving.runtime import Array
from tasks.gates.numerics import compare
from tasks.gates.rules import fidelity, further_outputs, not_worse_than_champion, worst_slice
from tasks.gates.score import Judged, judge
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
        "lost 41 and won 0 of 898 samples: -4.6 points (90% interval -5.9 to -3.6), margin 1 point, p = 1, power"
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


SLICES = np.repeat(["dark", "light", "rare"], [400, 480, 20])


def ask_slices(*lost: int, slices: Array = SLICES) -> tuple[Verdict, str, str]:
    candidate = np.ones(len(slices), bool)
    candidate[list(lost)] = False
    outcome, found = worst_slice(Judged(np.ones(len(slices), bool), candidate), slices, margin=0.01, alpha=0.05)
    assert outcome.rule == "worst_slice" and outcome.figures["slices"] == len(set(slices))
    assert found.test == outcome.test and found.test.alpha == pytest.approx(0.05 / outcome.figures["slices"])
    assert found.reference_score == 1 and found.score.low < found.score.estimate <= found.score.high
    return outcome.verdict, outcome.reason, found.slice


def test_a_slice_that_is_worse_for_certain_refuses() -> None:
    verdict, reason, name = ask_slices(*range(880, 886))
    assert (verdict, name) == (Verdict.FAIL, "rare")
    assert reason.startswith(
        "'rare', the worst of 3 slices, lost 6 and won 0 of 20 samples: -30.0 points (96.67% interval "
    )


def test_a_slice_too_small_to_tell_passes_and_says_what_it_takes() -> None:
    verdict, reason, name = ask_slices(880)
    assert (verdict, name) == (Verdict.PASS, "rare")
    assert "to show that it is not, it would take at least" in reason


def test_the_worst_slice_is_the_one_with_the_most_evidence_not_the_largest_share() -> None:
    verdict, _, name = ask_slices(*range(30), 880)
    assert (verdict, name) == (Verdict.FAIL, "dark")


def test_a_flawless_candidate_has_a_worst_slice_too() -> None:
    assert ask_slices()[::2] == (Verdict.PASS, "rare")
    assert ask_slices(slices=np.repeat([3, 7], 450))[0] is Verdict.PASS


def test_a_champion_is_held_to_on_every_slice() -> None:
    dataset = Dataset({"x": np.zeros((900, 1))}, np.zeros(900, np.int64), SLICES)
    worse = scores(900, 0)
    worse[880:890] = [0, 1]
    whole, sliced = not_worse_than_champion("the set", dataset, {"a": scores(900, 20)}, {"b": worse}, CONFIG)
    assert (whole.rule, whole.verdict) == ("not_worse_than_champion", Verdict.PASS)
    assert (sliced.rule, sliced.verdict) == ("worst_slice", Verdict.FAIL)
    assert sliced.reason.startswith("on the set: 'rare'")


@pytest.mark.parametrize(("scale", "verdict"), [(0.0, Verdict.PASS), (0.05, Verdict.PASS), (1.0, Verdict.FAIL)])
def test_outputs_that_are_not_scored_are_held_to_the_source(scale: float, verdict: Verdict) -> None:
    generator = np.random.default_rng(0)
    boxes, classes = generator.normal(size=(400, 4)), np.arange(400)
    reference: dict[str, Array] = {"boxes": boxes, "ids": classes}
    candidate: dict[str, Array] = {"boxes": boxes + scale * generator.normal(size=boxes.shape), "ids": classes}
    outcome = further_outputs(compare(reference, candidate), reference, candidate, margin=0.01, alpha=0.05)
    assert (outcome.rule, outcome.verdict) == ("further_outputs", verdict)
    assert "of 2 that are not scored" in outcome.reason
