"""Metrics by name: the built-in ones, and functions behind the entry points of other installed packages."""

from collections.abc import Callable
from importlib.metadata import EntryPoint, entry_points

import numpy as np

from registry.errors import InputError
from serving.runtime import Array, Arrays
from tasks.gates.paired import Scores

GROUP = "burnish.metrics"

AUTO = "auto"
TOP1 = "top1"
COSINE = "cosine"
ERROR = "error"
RANKING = "ranking"

BUILT_IN = {
    AUTO: "top1 for a classifier, error otherwise",
    TOP1: "samples whose largest output is the label or, without labels, the source's",
    COSINE: "samples whose cosine distance to the target is within 0.01 of the source's",
    ERROR: "samples whose error is within 5 % of the targets' standard deviation of the source's",
    RANKING: "nDCG at 10 of the items that an output ranks; without labels, the share of the source's ten best kept",
}
"""By name: what a sample is asked."""

MetricFunction = Callable[[Arrays, Array | None, Arrays], Array]
"""``(outputs, labels, reference) -> scores``: the outputs to score and those of the source model by output name, axis 0
the samples, and the evaluation set's labels. The scores are [samples], booleans or floats from 0 to 1, more is
better."""

_ERRORS = (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)
"""What a function raises that does not suit the outputs or the labels, or a module while it is imported."""


def check_metric(name: str) -> None:
    """Refuse a metric that nobody knows or that cannot be imported.

    Raises:
        InputError: no built-in metric and no entry point has this name, or the entry point's function is not there.
    """
    if name not in BUILT_IN:
        find_function(name)


def describe_metric(name: str) -> str:
    """Say in a line what a metric asks of a sample: for one behind an entry point, its docstring's first line.

    A metric that is not installed here is told by its name alone.
    """
    if name in BUILT_IN:
        return f"{name}: {BUILT_IN[name]}"
    if name not in _points():
        return name
    summary = (find_function(name).__doc__ or "a metric of another package").strip().split("\n", 1)[0]
    return f"{name}: {summary}"


def find_function(name: str) -> MetricFunction:
    """Import the function behind an entry point.

    Raises:
        InputError: there is none of this name, or it cannot be imported.
    """
    points = _points()
    if name not in points:
        known = ", ".join([*BUILT_IN, *sorted(points)])
        raise InputError(f"there is no metric {name!r}; known: {known}")
    try:
        found = points[name].load()
    except (ImportError, OSError, SyntaxError, *_ERRORS) as error:
        raise InputError(f"the metric {name!r} ({points[name].value}) cannot be imported: {error}") from error
    if not callable(found):
        raise InputError(f"the metric {name!r} ({points[name].value}) is no function; name one as module:function")
    function: MetricFunction = found
    return function


def score_with(name: str, outputs: Arrays, labels: Array | None, reference: Arrays) -> Scores:
    """Score the samples with the function behind an entry point.

    Args:
        name: of the metric.
        outputs: to score, by output name, axis 0 the samples.
        labels: the evaluation set's.
        reference: the source model's outputs on the same samples.

    Raises:
        InputError: the function fails, or what it returns is not one score from 0 to 1 for each sample.
    """
    function = find_function(name)
    try:
        scores = np.asarray(function(outputs, labels, reference))
    except _ERRORS as error:
        raise InputError(f"the metric {name!r} failed with {type(error).__name__}: {error}") from error
    samples = len(next(iter(outputs.values())))
    if scores.shape != (samples,) or scores.dtype.kind not in "bfiu":
        raise InputError(
            f"the metric {name!r} returned the shape {list(scores.shape)} of {scores.dtype}, expected [{samples}]: one "
            f"boolean or number from 0 to 1 for each sample"
        )
    if scores.dtype.kind == "b":
        return scores.astype(bool)
    numbers = scores.astype(np.float64)
    wrong = ~((numbers >= 0) & (numbers <= 1))
    if wrong.any():
        first = int(np.argmax(wrong))
        raise InputError(f"the metric {name!r} returned {numbers[first]} for sample {first}; scores go from 0 to 1")
    return numbers


def _points() -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=GROUP) if point.name not in BUILT_IN}
