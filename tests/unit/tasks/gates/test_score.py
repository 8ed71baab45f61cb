"""Scores: which metric is meant, and which samples are right."""

import numpy as np
import pytest
from scipy import stats

from registry.errors import CandidateError, InputError
from serving.runtime import Array, Arrays
from tasks.gates.metrics import AUTO, COSINE, ERROR, RANKING, TOP1
from tasks.gates.score import Judged, judge, judge_kept, resolve_metric, score_interval

CLASSES = np.array([[2, 1, 0], [0, 2, 1], [1, 0, 2], [2, 0, 1]], np.float32)
VECTORS = np.random.default_rng(0).normal(size=(100, 6)).astype(np.float32)


def judged(metric: str, reference: Array, candidate: Array, labels: Array | None = None) -> Judged:
    return judge(metric, {"y": reference}, {"y": candidate}, labels)


def test_the_first_output_is_scored() -> None:
    reference: Arrays = {"scores": CLASSES, "more": VECTORS[:4]}
    candidate: Arrays = {"more": -VECTORS[:4], "scores": CLASSES}
    assert judge(TOP1, reference, candidate, None).candidate.all()


@pytest.mark.parametrize(
    ("output", "labels", "expected"),
    [
        (CLASSES, np.array([0, 1, 2, 0]), TOP1),
        (CLASSES, np.array([0.0, 1.0, 2.0, 0.0]), TOP1),
        (CLASSES, None, TOP1),
        (CLASSES, CLASSES, ERROR),
        (CLASSES[:, :1], None, ERROR),
        (CLASSES[:, :1], np.array([0.5, 1, 2, 0]), ERROR),
        (CLASSES[:, :1], np.array([0, 1, 1, 0]), ERROR),
        (CLASSES[None], None, ERROR),
        (CLASSES.astype(np.int64), None, ERROR),
    ],
)
def test_auto_is_top1_for_classifiers_and_error_otherwise(output: Array, labels: Array | None, expected: str) -> None:
    assert resolve_metric(AUTO, {"y": output}, labels) == expected


@pytest.mark.parametrize(
    ("kind", "output", "labels", "words"),
    [
        (TOP1, CLASSES[:, :1], None, "needs a first output of"),
        (
            TOP1,
            CLASSES,
            np.array([0, 1, 2, 3]),
            "go from 0 to 3, but the model's first output has 3 classes",
        ),
        (TOP1, CLASSES, np.array([-1, 1, 2, 0]), "go from -1 to 2"),
        (TOP1, CLASSES, np.array([0.5, 1, 2, 0]), "whole numbers"),
        (AUTO, CLASSES, np.array([0.5, 1, 2, 0]), "one target for each value"),
        (COSINE, CLASSES, np.array([0, 1, 2, 0]), "one target for each value"),
    ],
)
def test_labels_that_do_not_suit_the_metric_are_refused(
    kind: str, output: Array, labels: Array | None, words: str
) -> None:
    with pytest.raises(InputError, match=words):
        resolve_metric(kind, {"y": output}, labels)


def test_top1_with_labels_judges_each_by_the_label() -> None:
    found = judged(TOP1, CLASSES, CLASSES[::-1], np.array([0, 1, 1, 0]))
    assert found.reference.tolist() == [True, True, False, True]
    assert found.candidate.tolist() == [True, False, True, True]


def test_top1_without_labels_is_agreement() -> None:
    found = judged(TOP1, CLASSES, CLASSES[::-1], None)
    assert found.reference.all()
    assert found.candidate.tolist() == [True, False, False, True]


def test_cosine_without_labels_asks_for_a_similarity_of_099() -> None:
    turned = np.array([[1, 0], [np.cos(0.13), np.sin(0.13)], [np.cos(0.15), np.sin(0.15)], [-1, 0], [0, 0]])
    straight = np.tile([1.0, 0.0], (5, 1))
    found = judged(COSINE, straight, turned, None)
    assert found.candidate.tolist() == [True, True, False, False, False]
    assert judged(COSINE, 0 * straight, 0 * straight, None).candidate.all()


def test_error_without_labels_is_measured_in_the_outputs_own_spread() -> None:
    for scale in (1e-3, 1.0, 1e4):
        assert judged(ERROR, scale * VECTORS, scale * (VECTORS + 0.04), None).candidate.all()
        assert not judged(ERROR, scale * VECTORS, scale * (VECTORS + 0.06), None).candidate.any()


def test_a_task_that_both_do_badly_is_no_row_of_ties() -> None:
    labels = VECTORS[:, 0]
    source, worse = labels[:, None] + 2, labels[:, None] + 3
    found = judged(ERROR, source, worse, labels)
    assert found.reference.all() and not found.candidate.any()
    better = judged(ERROR, worse, source, labels)
    assert better.candidate.all() and not better.reference.any()


def test_the_same_outputs_are_all_ties() -> None:
    for kind in (COSINE, ERROR):
        found = judged(kind, VECTORS, VECTORS, np.flip(VECTORS))
        assert found.reference.all() and found.candidate.all()


def test_targets_that_do_not_vary_still_have_a_scale() -> None:
    constant = np.full((4, 1), 100.0)
    assert judged(ERROR, constant, constant + 4, None).candidate.all()
    assert not judged(ERROR, constant, constant + 6, None).candidate.any()


def test_values_that_are_not_numbers_are_wrong() -> None:
    broken = VECTORS.copy()
    broken[3] = np.nan
    for kind in (COSINE, ERROR):
        assert np.flatnonzero(judged(kind, VECTORS, broken, None).candidate == 0).tolist() == [3]


def test_outputs_of_another_shape_lose_the_candidate() -> None:
    with pytest.raises(CandidateError, match=r"\[4, 2\], expected \[4, 3\]"):
        judged(TOP1, CLASSES, CLASSES[:, :2], None)


@pytest.mark.parametrize(("right", "samples"), [(0, 20), (20, 20), (13, 20), (875, 898)])
def test_the_score_interval_is_wilsons(right: int, samples: int) -> None:
    correct = np.arange(samples) < right
    found = score_interval(correct)
    expected = stats.binomtest(right, samples).proportion_ci(method="wilson")
    assert found.estimate == right / samples
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-9)


def test_a_mean_score_has_an_interval_that_holds_it() -> None:
    scores = np.random.default_rng(0).uniform(size=400)
    found = score_interval(scores)
    assert found.estimate == pytest.approx(scores.mean())
    assert 0.4 < found.low < found.estimate < found.high < 0.6
    assert score_interval(np.ones(50)).high == 1 and score_interval(np.zeros(50)).low == 0


RANKS = np.array([[3, 2, 1, 0], [0, 1, 2, 3]], np.float32)


def test_ranking_without_labels_is_the_share_of_the_best_items_kept() -> None:
    found = judged(RANKING, RANKS, np.array([[2, 3, 0, 1], [3, 2, 1, 0]], np.float32))
    assert found.reference.tolist() == [1, 1] and found.candidate.tolist() == [1, 0]


def test_ranking_with_labels_is_ndcg() -> None:
    relevance = np.array([[1.0, 0, 0, 0], [0, 0, 3, 0]])
    found = judged(RANKING, RANKS, RANKS[::-1], relevance)
    assert found.reference == pytest.approx([1, 1 / np.log2(3)])
    assert found.candidate == pytest.approx([1 / np.log2(5), 1 / np.log2(4)])
    by_index = judged(RANKING, RANKS, RANKS[::-1], np.array([0, 2]))
    assert by_index.candidate == pytest.approx(found.candidate)
    assert judged(RANKING, RANKS, RANKS, 0 * relevance).candidate.tolist() == [1, 1]


@pytest.mark.parametrize("labels", [np.array([0, 4]), np.array([[1.0, 0], [0, 1]]), -RANKS])
def test_labels_that_name_no_relevance_are_refused(labels: Array) -> None:
    with pytest.raises(InputError, match="the metric ranking needs labels of"):
        resolve_metric(RANKING, {"y": RANKS}, labels)
    with pytest.raises(InputError, match="needs a first output of"):
        resolve_metric(RANKING, {"y": RANKS[:, 0]}, None)


def test_a_further_output_is_kept_within_a_share_of_its_spread() -> None:
    assert judge_kept(VECTORS, VECTORS + 0.1).candidate.all()
    assert not judge_kept(VECTORS, VECTORS + 0.2).candidate.any()
    classes = np.array([[1, 2], [3, 4]])
    assert judge_kept(classes, np.array([[1, 2], [3, 5]])).candidate.tolist() == [True, False]
