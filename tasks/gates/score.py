"""Score predictions, sample by sample, so that one paired test serves every metric.

The first output of a model is the one that is scored. A sample counts as right:

- ``top1``: the largest of its [classes] outputs is the labelled class; without labels, the reference's class.
- ``cosine``: the cosine distance to its target is at most 0.01 more than the other model's.
- ``error``: the root mean square error to its target is at most 5 % of the targets' standard deviation more than the
  other model's.

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
from registry.records.model import Signature
from registry.records.optimization import MetricKind
from serving.runtime import Array
from tasks.gates.paired import Flags

COSINE_TOLERANCE = 0.01
"""A cosine similarity of 0.99. Source: the bound commonly asked of quantized embeddings and of layer outputs."""

ERROR_TOLERANCE = 0.05
"""Share of the targets' standard deviation; errors of this size, independent of the model's own, cost 0.0025 of R2."""

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Judged:
    """Where the reference and the candidate are right, [samples] each."""

    reference: Flags
    candidate: Flags


def scored_output(signature: Signature) -> str:
    """Return the name of the output that is scored: the first."""
    return signature.outputs[0].name


def resolve_metric(kind: MetricKind, output: Array, labels: Array | None) -> MetricKind:
    """Return the metric that ``auto`` stands for, or the metric asked for if it suits the model.

    ``auto`` is ``top1`` for an output of [samples, classes >= 2] floats whose labels, if there are any, are classes;
    otherwise it is ``error``.

    Args:
        kind: what was asked for.
        output: the source model's scored output on the evaluation set.
        labels: the evaluation set's labels.

    Raises:
        InputError: the labels or the output do not suit the metric.
    """
    classifier = output.ndim == 2 and output.shape[1] >= 2 and output.dtype.kind == "f"
    if kind is MetricKind.AUTO:
        top1 = classifier and (labels is None or _are_classes(labels))
        kind = MetricKind.TOP1 if top1 else MetricKind.ERROR
    if kind is MetricKind.TOP1:
        _check_top1(classifier, output, labels)
    elif labels is not None and _targets(labels, output).shape != output.shape:
        raise InputError(
            f"the labels have the shape {list(labels.shape)} and the model's first output has {list(output.shape)}; "
            f"the metric {kind} needs one target for each value: reshape the labels or leave them out"
        )
    return kind


def judge(metric: MetricKind, reference: Array, candidate: Array, labels: Array | None) -> Judged:
    """Return where each of two models is right, from their scored outputs on the same samples.

    Args:
        metric: as resolved.
        reference: [samples, ...] of the model that the candidate is held against.
        candidate: [samples, ...], the same shape.
        labels: the evaluation set's labels, or None to hold the candidate to the reference's answers.

    Raises:
        CandidateError: the two models' outputs differ in shape.
    """
    if candidate.shape != reference.shape:
        raise CandidateError(
            f"the scored output has the shape {list(candidate.shape)}, expected {list(reference.shape)} as the "
            f"reference's"
        )
    if metric is MetricKind.TOP1:
        classes = _top1(reference) if labels is None else labels
        return Judged(reference=_top1(reference) == classes, candidate=_top1(candidate) == classes)
    target = reference if labels is None else _targets(labels, reference)
    if metric is MetricKind.COSINE:
        distance, tolerance = _cosine_distance, COSINE_TOLERANCE
    else:
        distance, tolerance = _root_mean_square, ERROR_TOLERANCE * _scale(target)
    return _within(distance(reference, target), distance(candidate, target), tolerance)


def score_interval(correct: Flags, *, confidence: float = 0.95) -> Interval:
    """Return the share of right samples with Wilson's score interval.

    Source: Wilson, Probable inference, the law of succession, and statistical inference, JASA 22 (1927).
    """
    samples, share = int(correct.size), float(np.mean(correct))
    squared = float(stats.norm.ppf((1 + confidence) / 2)) ** 2
    center = (share + squared / (2 * samples)) / (1 + squared / samples)
    half = (squared * (share * (1 - share) / samples + squared / (4 * samples**2))) ** 0.5 / (1 + squared / samples)
    return Interval(
        estimate=share,
        low=max(0.0, min(center - half, share)),
        high=min(1.0, max(center + half, share)),
        confidence=confidence,
    )


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
