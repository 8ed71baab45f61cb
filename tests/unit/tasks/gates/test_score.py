"""Scores: which metric is meant, and which samples are right."""

import numpy as np
import pytest
from scipy import stats

from registry.errors import CandidateError, InputError
from registry.records.model import Datatype, Signature, TensorSpec
from registry.records.optimization import MetricKind
from serving.runtime import Array
from tasks.gates.score import judge, resolve_metric, score_interval, scored_output

CLASSES = np.array([[2, 1, 0], [0, 2, 1], [1, 0, 2], [2, 0, 1]], np.float32)
VECTORS = np.random.default_rng(0).normal(size=(100, 6)).astype(np.float32)


def test_the_first_output_is_scored() -> None:
    specs = tuple(TensorSpec(name=name, datatype=Datatype.FP32, shape=(None, 2)) for name in ("scores", "features"))
    assert scored_output(Signature(inputs=specs[:1], outputs=specs)) == "scores"


@pytest.mark.parametrize(
    ("output", "labels", "expected"),
    [
        (CLASSES, np.array([0, 1, 2, 0]), MetricKind.TOP1),
        (CLASSES, np.array([0.0, 1.0, 2.0, 0.0]), MetricKind.TOP1),
        (CLASSES, None, MetricKind.TOP1),
        (CLASSES, CLASSES, MetricKind.ERROR),
        (CLASSES[:, :1], None, MetricKind.ERROR),
        (CLASSES[:, :1], np.array([0.5, 1, 2, 0]), MetricKind.ERROR),
        (CLASSES[:, :1], np.array([0, 1, 1, 0]), MetricKind.ERROR),
        (CLASSES[None], None, MetricKind.ERROR),
        (CLASSES.astype(np.int64), None, MetricKind.ERROR),
    ],
)
def test_auto_is_top1_for_classifiers_and_error_otherwise(
    output: Array, labels: Array | None, expected: MetricKind
) -> None:
    assert resolve_metric(MetricKind.AUTO, output, labels) is expected


@pytest.mark.parametrize(
    ("kind", "output", "labels", "words"),
    [
        (MetricKind.TOP1, CLASSES[:, :1], None, "needs a first output of"),
        (
            MetricKind.TOP1,
            CLASSES,
            np.array([0, 1, 2, 3]),
            "go from 0 to 3, but the model's first output has 3 classes",
        ),
        (MetricKind.TOP1, CLASSES, np.array([-1, 1, 2, 0]), "go from -1 to 2"),
        (MetricKind.TOP1, CLASSES, np.array([0.5, 1, 2, 0]), "whole numbers"),
        (MetricKind.AUTO, CLASSES, np.array([0.5, 1, 2, 0]), "one target for each value"),
        (MetricKind.COSINE, CLASSES, np.array([0, 1, 2, 0]), "one target for each value"),
    ],
)
def test_labels_that_do_not_suit_the_metric_are_refused(
    kind: MetricKind, output: Array, labels: Array | None, words: str
) -> None:
    with pytest.raises(InputError, match=words):
        resolve_metric(kind, output, labels)


def test_top1_with_labels_judges_each_by_the_label() -> None:
    judged = judge(MetricKind.TOP1, CLASSES, CLASSES[::-1], np.array([0, 1, 1, 0]))
    assert judged.reference.tolist() == [True, True, False, True]
    assert judged.candidate.tolist() == [True, False, True, True]


def test_top1_without_labels_is_agreement() -> None:
    judged = judge(MetricKind.TOP1, CLASSES, CLASSES[::-1], None)
    assert judged.reference.all()
    assert judged.candidate.tolist() == [True, False, False, True]


def test_cosine_without_labels_asks_for_a_similarity_of_099() -> None:
    turned = np.array([[1, 0], [np.cos(0.13), np.sin(0.13)], [np.cos(0.15), np.sin(0.15)], [-1, 0], [0, 0]])
    straight = np.tile([1.0, 0.0], (5, 1))
    judged = judge(MetricKind.COSINE, straight, turned, None)
    assert judged.candidate.tolist() == [True, True, False, False, False]
    assert judge(MetricKind.COSINE, 0 * straight, 0 * straight, None).candidate.all()


def test_error_without_labels_is_measured_in_the_outputs_own_spread() -> None:
    for scale in (1e-3, 1.0, 1e4):
        assert judge(MetricKind.ERROR, scale * VECTORS, scale * (VECTORS + 0.04), None).candidate.all()
        assert not judge(MetricKind.ERROR, scale * VECTORS, scale * (VECTORS + 0.06), None).candidate.any()


def test_a_task_that_both_do_badly_is_no_row_of_ties() -> None:
    labels = VECTORS[:, 0]
    source, worse = labels[:, None] + 2, labels[:, None] + 3
    judged = judge(MetricKind.ERROR, source, worse, labels)
    assert judged.reference.all() and not judged.candidate.any()
    better = judge(MetricKind.ERROR, worse, source, labels)
    assert better.candidate.all() and not better.reference.any()


def test_the_same_outputs_are_all_ties() -> None:
    for kind in (MetricKind.COSINE, MetricKind.ERROR):
        judged = judge(kind, VECTORS, VECTORS, np.flip(VECTORS))
        assert judged.reference.all() and judged.candidate.all()


def test_targets_that_do_not_vary_still_have_a_scale() -> None:
    constant = np.full((4, 1), 100.0)
    assert judge(MetricKind.ERROR, constant, constant + 4, None).candidate.all()
    assert not judge(MetricKind.ERROR, constant, constant + 6, None).candidate.any()


def test_values_that_are_not_numbers_are_wrong() -> None:
    broken = VECTORS.copy()
    broken[3] = np.nan
    for kind in (MetricKind.COSINE, MetricKind.ERROR):
        assert np.flatnonzero(~judge(kind, VECTORS, broken, None).candidate).tolist() == [3]


def test_outputs_of_another_shape_lose_the_candidate() -> None:
    with pytest.raises(CandidateError, match=r"\[4, 2\], expected \[4, 3\]"):
        judge(MetricKind.TOP1, CLASSES, CLASSES[:, :2], None)


@pytest.mark.parametrize(("right", "samples"), [(0, 20), (20, 20), (13, 20), (875, 898)])
def test_the_score_interval_is_wilsons(right: int, samples: int) -> None:
    correct = np.arange(samples) < right
    found = score_interval(correct)
    expected = stats.binomtest(right, samples).proportion_ci(method="wilson")
    assert found.estimate == right / samples
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-9)
