"""Score predictions, sample by sample, so that one paired test serves every metric.

The first output of a model is the one that is scored; a metric behind an entry point is given all of them. A sample
counts as right:

- ``top1``: the largest of its [classes] outputs is the labelled class; without labels, the reference's class.
- ``cosine``: the cosine distance to its target is at most 0.01 more than the other model's.
- ``error``: the root mean square error to its target is at most 5 % of the targets' standard deviation more than the
  other model's.

``ranking`` gives each sample a score from 0 to 1: the nDCG at 10 of its [items] outputs by the labelled relevance;
without labels, the share of the reference's best items that are still among the best.

The target is the label, or the reference's own output where there are no labels: then the reference is always right,
and the candidate is right within the tolerance. Judging an error beside the other model's, and not against a fixed
bound, keeps a task that both models do badly from making every candidate a tie.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

from registry.errors import CandidateError, InputError
from registry.records.benchmark import Interval
from serving.runtime import Array, Arrays
from tasks.gates import ranking
from tasks.gates.betting import bounded_interval
from tasks.gates.metrics import AUTO, BUILT_IN, COSINE, ERROR, RANKING, TOP1, check_metric, score_with
from tasks.gates.paired import Scores

COSINE_TOLERANCE = 0.01
"""A cosine similarity of 0.99. Source: the bound commonly asked of quantized embeddings and of layer outputs."""

ERROR_TOLERANCE = 0.05
"""Share of the targets' standard deviation; errors of this size, independent of the model's own, cost 0.0025 of R2."""

KEPT_TOLERANCE = 0.14
"""Share of the output's standard deviation: values off by this much have a cosine similarity of 0.99 to the others."""

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Judged:
    """Where the reference and the candidate are right, or their scores from 0 to 1, [samples] each."""

    reference: Scores
    candidate: Scores


def resolve_metric(metric: str, outputs: Arrays, labels: Array | None) -> str:
    """Return the metric that ``auto`` stands for, or the metric asked for if it suits the model.

    ``auto`` is ``top1`` for an output of [samples, classes >= 2] floats whose labels, if there are any, are classes;
    otherwise it is ``error``.

    Args:
        metric: what was asked for.
        outputs: the source model's outputs on the evaluation set, the one that is scored first.
        labels: the evaluation set's labels.

    Raises:
        InputError: there is no such metric, or the labels or the output do not suit it.
    """
    check_metric(metric)
    output = _first(outputs)
    classifier = output.ndim == 2 and output.shape[1] >= 2 and output.dtype.kind == "f"
    if metric == AUTO:
        metric = TOP1 if classifier and (labels is None or _are_classes(labels)) else ERROR
    if metric == TOP1:
        _check_top1(classifier, output, labels)
    elif metric == RANKING:
        _check_ranking(classifier, output, labels)
    elif metric in BUILT_IN and labels is not None and _targets(labels, output).shape != output.shape:
        raise InputError(
            f"the labels have the shape {list(labels.shape)} and the model's first output has {list(output.shape)}; "
            f"the metric {metric} needs one target for each value: reshape the labels or leave them out"
        )
    return metric


def judge(metric: str, reference: Arrays, candidate: Arrays, labels: Array | None) -> Judged:
    """Score each of two models, from their outputs on the same samples.

    Args:
        metric: as resolved.
        reference: by output name, axis 0 the samples, the scored one first: of the model that the candidate is held
            against.
        candidate: the candidate's, under the same names.
        labels: the evaluation set's labels, or None to hold the candidate to the reference's answers.

    Raises:
        CandidateError: the two models' outputs differ in shape.
        InputError: a metric behind an entry point cannot score them.
    """
    first = next(iter(reference))
    theirs, ours = reference[first], candidate[first]
    if ours.shape != theirs.shape:
        raise CandidateError(
            f"the scored output has the shape {list(ours.shape)}, expected {list(theirs.shape)} as the reference's"
        )
    if metric not in BUILT_IN:
        return Judged(*(score_with(metric, outputs, labels, reference) for outputs in (reference, candidate)))
    if metric == TOP1:
        classes = _top1(theirs) if labels is None else labels
        return Judged(reference=_top1(theirs) == classes, candidate=_top1(ours) == classes)
    if metric == RANKING:
        return _ranked(theirs, ours, labels)
    target = theirs if labels is None else _targets(labels, theirs)
    if metric == COSINE:
        distance, tolerance = _cosine_distance, COSINE_TOLERANCE
    else:
        distance, tolerance = _root_mean_square, ERROR_TOLERANCE * _scale(target)
    return _within(distance(theirs, target), distance(ours, target), tolerance)


def judge_kept(reference: Array, candidate: Array) -> Judged:
    """Return on which samples a further output, which no metric scores, is still the reference's.

    Floats may be off by 14 % of the output's standard deviation, root mean square; other types must be equal.

    Args:
        reference: [samples, ...].
        candidate: [samples, ...], the same shape.
    """
    if reference.dtype.kind == "f":
        kept = _root_mean_square(candidate, reference) <= KEPT_TOLERANCE * _scale(reference)
    else:
        kept = (candidate == reference).reshape(len(reference), -1).all(axis=1)
    return Judged(reference=np.ones(len(reference), dtype=bool), candidate=kept)


def score_interval(scores: Scores, *, confidence: float = 0.95) -> Interval:
    """Return the mean score with its interval: Wilson's where samples are right or wrong, else by betting.

    Source: Wilson, Probable inference, the law of succession, and statistical inference, JASA 22 (1927).
    """
    if scores.dtype != np.bool_:
        found = bounded_interval(2 * scores.astype(np.float64) - 1, confidence=confidence)
        low, share, high = ((value + 1) / 2 for value in (found.low, found.estimate, found.high))
        return Interval(estimate=share, low=min(low, share), high=max(high, share), confidence=confidence)
    samples, share = int(scores.size), float(np.mean(scores))
    squared = float(stats.norm.ppf((1 + confidence) / 2)) ** 2
    center = (share + squared / (2 * samples)) / (1 + squared / samples)
    half = (squared * (share * (1 - share) / samples + squared / (4 * samples**2))) ** 0.5 / (1 + squared / samples)
    return Interval(
        estimate=share,
        low=max(0.0, min(center - half, share)),
        high=min(1.0, max(center + half, share)),
        confidence=confidence,
    )


def _first(outputs: Arrays) -> Array:
    return next(iter(outputs.values()))


def _ranked(reference: Array, candidate: Array, labels: Array | None) -> Judged:
    if labels is None:
        return Judged(np.ones(len(reference)), ranking.kept(candidate, reference))
    return Judged(ranking.ndcg(reference, labels), ranking.ndcg(candidate, labels))


def _are_classes(labels: Array) -> bool:
    return labels.ndim == 1 and bool(np.all(labels == np.floor(labels.astype(np.float64))))


def _check_top1(classifier: bool, output: Array, labels: Array | None) -> None:
    if not classifier:
        raise InputError(
            f"the metric top1 needs a first output of [samples, classes] floats, the model gives {list(output.shape)} "
            f"of {output.dtype}; ask for the metric error or cosine"
        )
    if labels is None:
        return
    if not _are_classes(labels):
        raise InputError("the metric top1 needs labels that are whole numbers, one a sample; ask for the metric error")
    classes = output.shape[1]
    if labels.min() < 0 or labels.max() >= classes:
        raise InputError(
            f"the labels go from {labels.min()} to {labels.max()}, but the model's first output has {classes} classes, "
            f"0 to {classes - 1}; number the labels as the outputs are"
        )


def _check_ranking(ranks: bool, output: Array, labels: Array | None) -> None:
    if not ranks:
        raise InputError(
            f"the metric ranking needs a first output of [samples, items] floats, the model gives {list(output.shape)} "
            f"of {output.dtype}; ask for the metric error or cosine"
        )
    items = output.shape[1]
    relevance = labels is not None and labels.shape == output.shape and bool(np.all(labels.astype(np.float64) >= 0))
    item = labels is not None and _are_classes(labels) and labels.min() >= 0 and labels.max() < items
    if labels is not None and not relevance and not item:
        raise InputError(
            f"the metric ranking needs labels of {list(output.shape)} relevances from 0, or [{len(output)}] indices of "
            f"the relevant item from 0 to {items - 1}; the set has {list(labels.shape)}"
        )


def _top1(output: Array) -> npt.NDArray[np.intp]:
    classes: npt.NDArray[np.intp] = np.argmax(output, axis=1)
    return classes


def _targets(labels: Array, output: Array) -> Array:
    """Labels in the output's shape where only axes of size 1 differ, as [n] beside [n, 1]."""
    return labels.reshape(output.shape) if labels.size == output.size else labels


def _within(reference: Floats, candidate: Floats, tolerance: float) -> Judged:
    return Judged(reference=reference <= candidate + tolerance, candidate=candidate <= reference + tolerance)


def _flat(values: Array) -> Floats:
    return values.reshape(len(values), -1).astype(np.float64)


def _root_mean_square(values: Array, target: Array) -> Floats:
    root: Floats = np.sqrt(np.mean((_flat(values) - _flat(target)) ** 2, axis=1))
    return root


def _scale(target: Array) -> float:
    """The targets' standard deviation; their mean size where they do not vary; 1 where they are all 0."""
    flat = _flat(target)
    return float(np.std(flat)) or float(np.mean(np.abs(flat))) or 1.0


def _cosine_distance(values: Array, target: Array) -> Floats:
    ours, theirs = _flat(values), _flat(target)
    norms = np.linalg.norm(ours, axis=1) * np.linalg.norm(theirs, axis=1)
    both_zero = ~ours.any(axis=1) & ~theirs.any(axis=1)
    similarity = np.sum(ours * theirs, axis=1) / np.where(norms > 0, norms, 1.0)
    distance: Floats = 1 - np.where(both_zero, 1.0, similarity)
    return distance
