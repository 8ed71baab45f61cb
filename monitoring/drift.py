"""Drift: an Evidently report of captured requests against the evaluation set of the version that answered them."""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from evidently import DataDefinition, Dataset, Report
from evidently.legacy.calculations.stattests import StatTest, register_stattest
from evidently.legacy.core import ColumnType
from evidently.presets import DataDriftPreset
from scipy.stats import chi2_contingency

from monitoring.drift_columns import Columns, to_columns
from monitoring.request_log import Window
from registry.errors import InputError
from registry.records.observation import ColumnDrift, DriftReport

HTML_FILE = "drift.html"
JSON_FILE = "drift.json"

MIN_SAMPLES = 100
"""Below this the tests see only gross changes, so a quiet report would say nothing."""
SAMPLE_ROWS = 1000
"""More rows cost time and make the tests call changes that do not matter."""
DRIFT_SHARE = 0.5
"""Drifted columns, as a share, from which the whole set is called drifted. Source: Evidently's DataDriftPreset."""
ALPHA = 0.05
"""p value below which a column drifted. Source: Evidently's default for its tests."""

Array = npt.NDArray[np.generic]


@dataclass(frozen=True)
class Reference:
    """The evaluation set: inputs by name and, where known, the version's outputs on them; axis 0 the samples."""

    inputs: dict[str, Array]
    outputs: dict[str, Array] = field(default_factory=dict)


def drift_report(*, model: str, version: int, reference: Reference, current: Window, folder: Path) -> DriftReport:
    """Compare captured requests with the evaluation set; write ``drift.html`` and ``drift.json`` into the folder.

    Narrow inputs are compared value by value, wide ones by summaries, outputs (if the reference has them) by class.
    Columns that hold one and the same value on both sides are left out. The set is drifted if at least half of the
    columns are.

    Raises:
        InputError: too few samples on either side, or tensors of other names or sizes.
    """
    _check(reference, current)
    outputs = {name: array for name, array in current.outputs.items() if name in reference.outputs}
    before = to_columns(_sample(reference.inputs), _sample(reference.outputs))
    after = to_columns(_sample(current.inputs), _sample(outputs))
    snapshot = _compare(before, after)
    folder.mkdir(parents=True, exist_ok=True)
    snapshot.save_html(str(folder / HTML_FILE))
    snapshot.save_json(str(folder / JSON_FILE))
    metrics = snapshot.dict()["metrics"]
    share = float(next(metric["value"]["share"] for metric in metrics if "count" in _values(metric)))
    return DriftReport(
        model=model,
        version=version,
        created_at=datetime.now(UTC),
        requests=current.requests,
        samples=len(current),
        columns=tuple(_column(metric) for metric in metrics if "column" in metric["config"]),
        share_drifted=share,
        drifted=share >= DRIFT_SHARE,
    )


def _class_test(reference: pd.Series, current: pd.Series, _kind: ColumnType, threshold: float) -> tuple[float, bool]:
    """Two-sample chi-square of class counts.

    Evidently's own chi-square takes the reference's shares for exact and so calls sampling noise drift.
    """
    classes = sorted(set(reference) | set(current))
    table = [column.value_counts().reindex(classes, fill_value=0).to_numpy() for column in (reference, current)]
    p_value = float(chi2_contingency(np.stack(table)).pvalue)
    return p_value, p_value < threshold


_CLASS_TEST = StatTest(
    name="two_sample_chisquare",
    display_name="two-sample chi-square p_value",
    allowed_feature_types=[ColumnType.Categorical],
    default_threshold=ALPHA,
)
register_stattest(_CLASS_TEST, default_impl=_class_test)


def _check(reference: Reference, current: Window) -> None:
    if len(current) < MIN_SAMPLES:
        raise InputError(
            f"{len(current)} samples captured, need at least {MIN_SAMPLES}: send more traffic or raise "
            f"BURNISH_CAPTURE_RATE"
        )
    for kind, before, after in (
        ("input", reference.inputs, current.inputs),
        ("output", reference.outputs, current.outputs),
    ):
        for name, array in before.items():
            if len(array) < MIN_SAMPLES:
                raise InputError(f"the evaluation set holds {len(array)} samples, drift needs at least {MIN_SAMPLES}")
            if name not in after:
                raise InputError(f"the captured requests lack the {kind} {name!r} of the evaluation set")
            if array[:1].size != after[name][:1].size:
                raise InputError(
                    f"the {kind} {name!r} has {array[:1].size} values a sample in the evaluation set and "
                    f"{after[name][:1].size} in the captured requests; compare samples of one size"
                )


def _sample(arrays: dict[str, Array]) -> dict[str, Array]:
    """At most SAMPLE_ROWS samples, spread evenly and the same ones every time."""
    if not arrays:
        return {}
    rows = len(next(iter(arrays.values())))
    kept = np.linspace(0, rows - 1, min(rows, SAMPLE_ROWS)).round().astype(np.int64)
    return {name: array[kept] for name, array in arrays.items()}


def _compare(before: Columns, after: Columns) -> Any:  # noqa: ANN401 - Evidently ships no types
    varying = [
        name for name, column in before.all.items() if len(np.unique(np.concatenate([column, after.all[name]]))) > 1
    ]
    if not varying:
        raise InputError("every captured value is the same as every value of the evaluation set: nothing to compare")
    definition = DataDefinition(
        numerical_columns=[name for name in varying if name in before.numerical],
        categorical_columns=[name for name in varying if name in before.categorical],
    )
    reference, current = (
        Dataset.from_pandas(pd.DataFrame({name: columns.all[name] for name in varying}), data_definition=definition)
        for columns in (before, after)
    )
    preset = DataDriftPreset(drift_share=DRIFT_SHARE, num_method="ks", cat_method=_CLASS_TEST.name, threshold=ALPHA)
    # A column may be constant on one side; Evidently's correlation plots then divide by zero.
    with np.errstate(divide="ignore", invalid="ignore"):
        return Report([preset]).run(current, reference)


def _values(metric: dict[str, Any]) -> dict[str, Any]:
    value = metric["value"]
    return value if isinstance(value, dict) else {}


def _column(metric: dict[str, Any]) -> ColumnDrift:
    config, score = metric["config"], float(metric["value"])
    return ColumnDrift(
        column=config["column"],
        method=config["method"],
        score=score,
        threshold=config["threshold"],
        drifted=score < config["threshold"],
    )
