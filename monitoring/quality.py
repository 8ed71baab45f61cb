"""Data quality: Great Expectations guards the sets that a model is judged and calibrated on.

Every sample is reduced to a few figures first, so that the checks cost the same for digits and for photographs.
"""

import threading
from collections.abc import Iterable, Iterator, Mapping

import great_expectations as gx
import numpy as np
import numpy.typing as npt
import pandas as pd
from great_expectations import expectations
from great_expectations.data_context.types.base import (
    DataContextConfig,
    InMemoryStoreBackendDefaults,
    ProgressBarsConfig,
)

from monitoring.quality_checks import (
    Check,
    distinct_check,
    input_checks,
    label_checks,
    leak_check,
    range_checks,
    rows_check,
)
from monitoring.quality_columns import samples_frame
from registry.errors import InputError
from registry.records.gate import RuleOutcome, Verdict
from registry.records.model import Signature
from registry.records.observation import DataQuality

EVALUATION, CALIBRATION = "evaluation", "calibration"

Array = npt.NDArray[np.generic]

_one_context = threading.Lock()
"""Great Expectations keeps its current context in a global of the process."""


def check_datasets(
    signature: Signature,
    evaluation: Mapping[str, Array],
    calibration: Mapping[str, Array] | None = None,
    labels: Array | None = None,
) -> tuple[DataQuality, ...]:
    """Check an evaluation set, and a calibration set against it; what a check found is a value.

    Args:
        signature: the model's.
        evaluation: inputs by name, axis 0 the samples.
        calibration: the same, or None if there is no calibration set.
        labels: the evaluation set's: [n] integers (classes), or floats (targets).

    Raises:
        InputError: an input is missing or the arrays have unequal numbers of samples.
    """
    evaluated = _frame(signature, evaluation, labels, EVALUATION)
    checks = [*_own_checks(signature, evaluated), *([] if labels is None else label_checks(evaluated, signature))]
    if calibration is None:
        return (_run(EVALUATION, evaluated, checks),)
    calibrated = _frame(signature, calibration, None, CALIBRATION)
    calibration_checks = _own_checks(signature, calibrated)
    if len(evaluated) and len(calibrated):
        checks += _ranges(signature, len(evaluated), calibrated, CALIBRATION)
        calibration_checks += _ranges(signature, len(calibrated), evaluated, EVALUATION)
        calibration_checks.append(leak_check(calibrated, evaluated))
    return _run(EVALUATION, evaluated, checks), _run(CALIBRATION, calibrated, calibration_checks)


def require_quality(checked: Iterable[DataQuality]) -> None:
    """Refuse sets that a check did not pass.

    Raises:
        InputError: it names the set and the reason of every check that did not pass.
    """
    failed = [
        f"{quality.dataset}: {outcome.reason}"
        for quality in checked
        for outcome in quality.outcomes
        if outcome.verdict is not Verdict.PASS
    ]
    if failed:
        raise InputError("the data checks refuse the sets: " + "; ".join(failed))


def _frame(signature: Signature, inputs: Mapping[str, Array], labels: Array | None, dataset: str) -> pd.DataFrame:
    missing = [spec.name for spec in signature.inputs if spec.name not in inputs]
    if missing:
        raise InputError(f"the {dataset} set lacks the input {missing[0]!r}; give one array per input of the model")
    arrays = {spec.name: inputs[spec.name] for spec in signature.inputs}
    lengths = {name: len(array) for name, array in arrays.items()} | ({} if labels is None else {"label": len(labels)})
    if len(set(lengths.values())) > 1:
        listed = ", ".join(f"{name!r} {length}" for name, length in lengths.items())
        raise InputError(f"the {dataset} set has unequal numbers of samples: {listed}; axis 0 must be the same samples")
    return samples_frame(arrays, labels)


def _own_checks(signature: Signature, frame: pd.DataFrame) -> list[Check]:
    checks = [rows_check()]
    if len(frame):
        checks += [check for spec in signature.inputs for check in input_checks(spec)]
    if len(frame) > 1:
        checks.append(distinct_check(signature))
    return checks


def _ranges(signature: Signature, rows: int, other: pd.DataFrame, other_name: str) -> Iterator[Check]:
    for spec in signature.inputs:
        if spec.datatype.numpy_name != "bool":
            yield from range_checks(spec, rows, other, other_name)


def _run(dataset: str, frame: pd.DataFrame, checks: Iterable[Check]) -> DataQuality:
    checks = list(checks)
    with _one_context:
        context = gx.get_context(mode="ephemeral", project_config=_configuration())
        asset = context.data_sources.add_pandas("samples").add_dataframe_asset(dataset)
        suite = gx.ExpectationSuite(name=dataset)
        for place, check in enumerate(checks):
            # The place tells the results apart, whose order is Great Expectations' own.
            suite.add_expectation(getattr(expectations, check.expectation)(**check.arguments, meta={"place": place}))
        validation = gx.ValidationDefinition(
            name=dataset,
            data=asset.add_batch_definition_whole_dataframe("all samples"),
            suite=context.suites.add(suite),
        )
        found = context.validation_definitions.add(validation).run(batch_parameters={"dataframe": frame})
    results = {result.expectation_config.meta["place"]: result for result in found.results}
    outcomes = tuple(_outcome(check, results[place], len(frame)) for place, check in enumerate(checks))
    return DataQuality(dataset=dataset, samples=len(frame), outcomes=outcomes)


def _configuration() -> DataContextConfig:
    """Everything in memory, no pages, no progress bars, no analytics."""
    return DataContextConfig(
        store_backend_defaults=InMemoryStoreBackendDefaults(),
        progress_bars=ProgressBarsConfig(globally=False),
        analytics_enabled=False,
    )


def _outcome(check: Check, result: gx.core.ExpectationValidationResult, samples: int) -> RuleOutcome:
    if not result.result:
        return RuleOutcome(
            rule=check.rule,
            verdict=Verdict.CANNOT_TELL,
            reason=f"Great Expectations could not evaluate {check.expectation}: {result.exception_info}",
        )
    unexpected = result.result.get("unexpected_count", 0)
    text = check.holds if result.success else check.fails
    return RuleOutcome(
        rule=check.rule,
        verdict=Verdict.PASS if result.success else Verdict.FAIL,
        reason=text.format(unexpected=unexpected, samples=samples, observed=result.result.get("observed_value")),
        figures={"samples": float(samples), "unexpected": float(unexpected), **check.figures},
    )
