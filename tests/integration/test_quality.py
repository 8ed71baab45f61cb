"""Great Expectations on real digits: a good pair of sets, and each mistake named by its rule."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from burnish.examples.digits import load_digits_split
from monitoring.quality import check_datasets
from registry.errors import InputError
from registry.records.gate import RuleOutcome
from registry.records.model import Datatype, Signature, TensorSpec
from registry.records.observation import DataQuality

Array = npt.NDArray[np.generic]

SPLIT = load_digits_split()
IMAGES, LABELS, CALIBRATION = SPLIT.evaluation_x, SPLIT.evaluation_y, SPLIT.calibration_x


def signature(
    name: str, shape: Sequence[int | None], outputs: int = 10, datatype: Datatype = Datatype.FP32
) -> Signature:
    return Signature(
        inputs=(TensorSpec(name=name, datatype=datatype, shape=(None, *shape)),),
        outputs=(TensorSpec(name="out", datatype=Datatype.FP32, shape=(None, outputs)),),
    )


DIGITS = signature("image", (1, 8, 8))


def check(evaluation: Array, calibration: Array | None, labels: Array | None = None) -> tuple[DataQuality, ...]:
    return check_datasets(
        DIGITS, {"image": evaluation}, None if calibration is None else {"image": calibration}, labels
    )


def failed(checked: tuple[DataQuality, ...]) -> list[RuleOutcome]:
    return [outcome for quality in checked for outcome in quality.outcomes if outcome.verdict != "pass"]


def test_good_sets_pass_every_rule_and_leave_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    evaluation, calibration = check(IMAGES, CALIBRATION, LABELS)
    assert (evaluation.dataset, evaluation.samples, evaluation.passed) == ("evaluation", 898, True)
    assert (calibration.dataset, calibration.samples, calibration.passed) == ("calibration", 180, True)
    assert {outcome.rule for outcome in (*evaluation.outcomes, *calibration.outcomes)} == {
        f"quality:{rule}"
        for rule in ("rows", "datatype", "shape", "no_nan", "distinct", "labels", "classes", "range", "no_leak")
    }
    labels = next(outcome for outcome in evaluation.outcomes if outcome.rule == "quality:labels")
    assert "10 of 10 classes are present (0: 89, 1: 91" in labels.reason
    assert list(tmp_path.iterdir()) == []
    assert capfd.readouterr() == ("", "")


def test_nan_and_infinity_are_counted() -> None:
    broken = IMAGES.copy()
    broken[3, 0, 0, 0], broken[5, 0, 1, 1] = np.nan, np.inf
    (outcome,) = failed(check(broken, None))
    assert outcome.rule == "quality:no_nan"
    assert "in 2 of 898 samples" in outcome.reason


def test_another_type_or_shape_is_named() -> None:
    rules = {outcome.rule: outcome.reason for outcome in failed(check(IMAGES.astype(np.float64)[:, 0], None))}
    assert set(rules) == {"quality:datatype", "quality:shape"}
    assert "[1, 8, 8]" in rules["quality:shape"]


def test_a_varying_size_may_have_any_value() -> None:
    tokens = np.random.default_rng(0).integers(0, 1000, (50, 17))
    assert not failed(check_datasets(signature("tokens", (None,), datatype=Datatype.INT64), {"tokens": tokens}))


@pytest.mark.parametrize("scale", [16, 255, 1 / 16])
def test_a_calibration_set_of_another_scale_is_caught(scale: float) -> None:
    outcomes = failed(check(IMAGES, (CALIBRATION * scale).astype(np.float32)))
    assert {outcome.rule for outcome in outcomes} == {"quality:range"}
    assert "scale both sets alike" in outcomes[0].reason


def test_a_normalised_calibration_set_is_caught() -> None:
    normalised = ((CALIBRATION - CALIBRATION.mean()) / CALIBRATION.std()).astype(np.float32)
    assert {outcome.rule for outcome in failed(check(IMAGES, normalised))} == {"quality:range"}


def test_heavy_tails_and_few_samples_are_no_other_scale() -> None:
    rows = np.random.default_rng(0).lognormal(0, 2, (2000, 6)).astype(np.float32)
    for size in (1, 8, 64):
        checked = check_datasets(signature("x", (6,)), {"x": rows[size:]}, {"x": rows[:size]})
        assert not failed(checked)


@pytest.mark.parametrize("shared", [1, 90])
def test_calibration_samples_from_the_evaluation_set_are_counted(shared: int) -> None:
    leaked = np.concatenate([CALIBRATION[shared:], IMAGES[:shared]])
    (outcome,) = failed(check(IMAGES, leaked))
    assert outcome.rule == "quality:no_leak"
    assert outcome.reason.startswith(f"{shared} of 180 samples")


def test_categories_that_repeat_by_nature_are_neither_copies_nor_a_leak() -> None:
    rows = np.random.default_rng(0).integers(0, 3, (300, 2))
    categories = signature("x", (2,), datatype=Datatype.INT64)
    assert not failed(check_datasets(categories, {"x": rows[:200]}, {"x": rows[200:]}))


def test_copies_are_caught() -> None:
    (outcome,) = failed(check(np.tile(IMAGES[:100], (3, 1, 1, 1)), None))
    assert outcome.rule == "quality:distinct"
    assert "33.3%" in outcome.reason
    words = np.full((30, 4), 7)
    (outcome,) = failed(check_datasets(signature("x", (4,), datatype=Datatype.INT64), {"x": words}))
    assert outcome.rule == "quality:distinct"


def test_labels_must_be_classes_of_the_model() -> None:
    (outcome,) = failed(check(IMAGES, None, LABELS + 1))
    assert (outcome.rule, outcome.figures["unexpected"]) == ("quality:labels", 90)
    (outcome,) = failed(check(IMAGES, None, LABELS - 1))
    assert (outcome.rule, outcome.figures["unexpected"]) == ("quality:labels", 89)


def test_labels_of_one_class_only_are_caught() -> None:
    (outcome,) = failed(check(IMAGES, None, LABELS * 0 + 3))
    assert outcome.rule == "quality:classes"
    assert "every label is 3" in outcome.reason


def test_targets_of_a_regression_must_be_finite() -> None:
    targets = LABELS.astype(np.float64)
    assert not failed(check(IMAGES, None, targets))
    targets[7] = np.inf
    (outcome,) = failed(check(IMAGES, None, targets))
    assert "'label' holds NaN or infinity in 1 of 898" in outcome.reason


def test_an_empty_set_fails() -> None:
    (outcome,) = failed(check(IMAGES[:0], None))
    assert outcome.rule == "quality:rows"


def test_arrays_that_do_not_fit_together_are_an_input_error() -> None:
    with pytest.raises(InputError, match="lacks the input 'image'"):
        check_datasets(DIGITS, {"picture": IMAGES})
    with pytest.raises(InputError, match="unequal numbers of samples: 'image' 898, 'label' 5"):
        check(IMAGES, None, LABELS[:5])
