"""The checks on evaluation and calibration sets: what is looked at, what must hold, what to say.

A check is a value; ``monitoring.quality`` turns it into an expectation of Great Expectations and runs it.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from monitoring.quality_columns import DIGEST, LABEL
from registry.records.model import Signature, TensorSpec

MIN_DISTINCT_SHARE = 0.5
"""Repeated samples make the paired tests believe in more evidence than there is."""
MIN_LABELS_FOR_CLASSES = 20
"""From here on, labels of one class only are a mistake and not chance."""
RANGE_TOLERANCE = 0.5
"""Values may lie outside the other set's range by this share of its width."""
RANGE_SHARE = 0.2
"""Share of samples that may lie outside the other set's range in any case."""
RANGE_ALPHA = 0.001
"""How often two sets of one distribution may be called of different scale, a side."""


@dataclass(frozen=True)
class Check:
    """One expectation: its type by the name that Great Expectations gives it, its arguments, and both answers.

    The answers may name ``{unexpected}``, ``{samples}`` and ``{observed}``.
    """

    rule: str
    expectation: str
    arguments: dict[str, object]
    holds: str
    fails: str
    figures: dict[str, float] = field(default_factory=dict)


def rows_check() -> Check:
    """Return the check that there is a sample at all."""
    return Check(
        rule="quality:rows",
        expectation="ExpectTableRowCountToBeBetween",
        arguments={"min_value": 1},
        holds="{observed} samples",
        fails="it holds no sample; give at least one",
    )


def input_checks(spec: TensorSpec) -> Iterator[Check]:
    """Yield the checks on one input of a set: type, shape, NaN."""
    name, datatype = spec.name, spec.datatype.numpy_name
    shape = ", ".join("any" if size is None else str(size) for size in spec.shape[1:])
    yield Check(
        rule="quality:datatype",
        expectation="ExpectColumnValuesToBeInSet",
        arguments={"column": f"{name}:datatype", "value_set": [datatype]},
        holds=f"{_quoted(name)} is {datatype}",
        fails=f"{_quoted(name)} is not {datatype}, which the model takes; convert it",
    )
    yield Check(
        rule="quality:shape",
        expectation="ExpectColumnValuesToMatchRegex",
        arguments={"column": f"{name}:shape", "regex": rf"^\[{shape.replace('any', '[0-9]+')}\]$"},
        holds=f"samples of {_quoted(name)} have the shape [{shape}]",
        fails=f"samples of {_quoted(name)} do not have the shape [{shape}] that the model takes; reshape them",
    )
    yield _finite(name)


def distinct_check(signature: Signature) -> Check:
    """Return the check that samples differ; integer inputs (words, categories) may well repeat, but not all be one."""
    if any(spec.datatype.numpy_name.startswith("float") for spec in signature.inputs):
        return Check(
            rule="quality:distinct",
            expectation="ExpectColumnProportionOfUniqueValuesToBeBetween",
            arguments={"column": DIGEST, "min_value": MIN_DISTINCT_SHARE, "strict_min": True},
            holds="{observed:.1%} of the samples are distinct",
            fails="only {observed:.1%} of the samples are distinct, the others are exact copies; remove the copies",
        )
    return Check(
        rule="quality:distinct",
        expectation="ExpectColumnUniqueValueCountToBeBetween",
        arguments={"column": DIGEST, "min_value": 2},
        holds="{observed} samples are distinct",
        fails="all samples are one and the same; give different ones",
    )


def label_checks(frame: pd.DataFrame, signature: Signature) -> Iterator[Check]:
    """Yield the checks on labels: classes that the model's first output has, more than one of them; finite targets."""
    if LABEL not in frame:
        yield _finite(LABEL)
        return
    shape = signature.outputs[0].shape
    classes = shape[1] if len(shape) == 2 else None
    if classes is None or classes < 2:
        return
    counts = frame[LABEL].value_counts().sort_index()
    listed = ", ".join(f"{label}: {count}" for label, count in counts.head(20).items())
    listed += ", ..." if len(counts) > 20 else ""
    yield Check(
        rule="quality:labels",
        expectation="ExpectColumnValuesToBeBetween",
        arguments={"column": LABEL, "min_value": 0, "max_value": classes - 1},
        holds=f"{len(counts)} of {classes} classes are present ({listed})",
        fails=f"{{unexpected}} of {{samples}} labels are not a class from 0 to {classes - 1} ({listed}); correct them",
        figures={"classes": float(len(counts)), "smallest_class": float(counts.min())},
    )
    if len(frame) >= MIN_LABELS_FOR_CLASSES:
        yield Check(
            rule="quality:classes",
            expectation="ExpectColumnUniqueValueCountToBeBetween",
            arguments={"column": LABEL, "min_value": 2},
            holds="the labels are of {observed} classes",
            fails=f"every label is {counts.index[0]}, so any constant answer would be right; give more classes",
        )


def range_checks(spec: TensorSpec, rows: int, other: pd.DataFrame, other_name: str) -> Iterator[Check]:
    """Yield the checks that an input's values are of the other set's scale; none where that set has no finite value.

    Args:
        spec: the input.
        rows: samples of the set that is checked.
        other: the other set.
        other_name: its name.
    """
    low, high = float(other[f"{spec.name}:min"].min()), float(other[f"{spec.name}:max"].max())
    if not np.isfinite([low, high]).all():
        return
    slack = RANGE_TOLERANCE * ((high - low) or max(abs(low), abs(high)))
    mostly = 1 - max(RANGE_SHARE, _beyond_by_chance(rows, len(other)))
    name = _quoted(spec.name)
    for figure, side, bound in (
        ("min", "below", {"min_value": low - slack}),
        ("max", "above", {"max_value": high + slack}),
    ):
        yield Check(
            rule="quality:range",
            expectation="ExpectColumnValuesToBeBetween",
            arguments={"column": f"{spec.name}:{figure}", "mostly": mostly, **bound},
            holds=f"{{unexpected}} of {{samples}} samples of {name} reach far {side} the {other_name} set",
            fails=(
                f"{{unexpected}} of {{samples}} samples of {name} reach far {side} the {other_name} set, which goes "
                f"from {low:g} to {high:g}; scale both sets alike"
            ),
        )


def leak_check(calibration: pd.DataFrame, evaluation: pd.DataFrame) -> Check:
    """Return the check that no calibration sample is in the evaluation set.

    Where the evaluation set repeats itself (words, categories), the calibration set may hold as large a share.
    """
    known = evaluation[DIGEST].unique()
    repeated = evaluation[DIGEST].duplicated(keep=False).mean()
    return Check(
        rule="quality:no_leak",
        expectation="ExpectColumnValuesToNotBeInSet",
        arguments={"column": DIGEST, "value_set": known.tolist(), "mostly": float(1 - repeated)},
        holds="{unexpected} of {samples} samples are in the evaluation set too",
        fails="{unexpected} of {samples} samples are in the evaluation set too, which biases the figures; remove them",
        figures={"shared": float(calibration[DIGEST].isin(known).mean())},
    )


def _beyond_by_chance(rows: int, other_rows: int) -> float:
    """Return the share of samples beyond the largest of another set that one distribution explains.

    All orders of the samples of both sets being equally likely, at least k of n lie beyond all m others with the chance
    n/(n+m) (n-1)/(n+m-1) ... for k factors, whatever the distribution.
    Source: Epstein, Tables for the distribution of the number of exceedances, Ann. Math. Statist. 25 (1954).
    """
    chance, beyond = 1.0, 0
    while beyond < rows:
        chance *= (rows - beyond) / (rows + other_rows - beyond)
        if chance <= RANGE_ALPHA:
            return beyond / rows
        beyond += 1
    return 1.0


def _finite(name: str) -> Check:
    return Check(
        rule="quality:no_nan",
        expectation="ExpectColumnValuesToBeInSet",
        arguments={"column": f"{name}:not finite", "value_set": [0]},
        holds=f"every value of {_quoted(name)} is a finite number",
        fails=f"{_quoted(name)} holds NaN or infinity in {{unexpected}} of {{samples}} samples; remove or replace them",
    )


def _quoted(name: str) -> str:
    """A tensor's name for an answer, where braces mark figures."""
    return repr(name).replace("{", "{{").replace("}", "}}")
