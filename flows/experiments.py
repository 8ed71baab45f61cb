"""What an experiment has shown so far, from captured requests and the feedback on them."""

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

import numpy as np
import numpy.typing as npt

from flows.api_bodies import ExperimentView
from monitoring.request_log import Query, Window, labelled, read_window
from registry.errors import InputError
from registry.ledger.ledger import Ledger
from registry.records.experiment import Arm, Experiment, ExperimentMetric
from registry.records.release import Feedback
from tasks.gates.arms import compare_arms
from tasks.gates.metrics import TOP1
from tasks.gates.score import judge, resolve_metric

MAX_SAMPLES = 100_000
"""Read at one look; more take seconds and gigabytes."""

Floats = npt.NDArray[np.float64]


def look(ledger: Ledger, capture_folder: Path, experiment: Experiment) -> ExperimentView:
    """Compare the arms of an experiment by what is known now; what cannot be read or scored is said in the notes."""
    until, notes = _until(ledger, experiment), list[str]()
    span = Query(
        since_ms=_ms(experiment.started_at),
        until_ms=None if until is None else _ms(until),
        limit=MAX_SAMPLES,
        outputs_only=True,
    )
    captured: dict[int, set[str]] = {}
    scores: dict[int, Floats] = {}
    try:
        window = read_window(capture_folder, experiment.model, span)
        captured = _captured(window)
        notes += _left_out(window)
        scores = _scores(window, ledger.feedback(experiment.model), experiment.metric)
    except InputError as error:  # nothing was captured yet, no request has labels yet, or they do not suit the metric
        notes.append(str(error))
    return ExperimentView(
        experiment=experiment, arms=_arms(experiment, captured, scores), until=until, notes=tuple(notes)
    )


def _until(ledger: Ledger, experiment: Experiment) -> datetime | None:
    """The moment from which the experiment's split was in force no longer; None: it still is."""
    later = (event for event in ledger.history(experiment.model) if event.generation > experiment.generation)
    replaced = next((event.at for event in later if event.split != experiment.split), None)
    return min(filter(None, (replaced, experiment.ended_at)), default=None)


def _arms(experiment: Experiment, captured: Mapping[int, set[str]], scores: Mapping[int, Floats]) -> tuple[Arm, ...]:
    nothing = np.zeros(0)
    by_version = {version: scores.get(version, nothing) for version in sorted(experiment.split.weights)}
    compared = compare_arms(by_version, experiment.control, confidence=experiment.confidence)
    return tuple(
        Arm(
            version=version,
            percent=experiment.split.weights[version],
            captured=len(captured.get(version, ())),
            scored=len(found),
            mean=compared[version].mean,
            difference=compared[version].difference,
            verdict=compared[version].verdict,
        )
        for version, found in by_version.items()
    )


def _left_out(window: Window) -> list[str]:
    notes = list(window.skipped_files)
    if window.skipped_samples:
        notes.append(f"{window.skipped_samples} captured samples have another shape than the latest and are left out")
    if len(window) == MAX_SAMPLES:
        notes.append(
            f"only the latest {MAX_SAMPLES} captured samples were read; the intervals hold for this look alone"
        )
    return notes


def _captured(window: Window) -> dict[int, set[str]]:
    found: dict[int, set[str]] = {}
    for version, request_id in zip(window.versions.tolist(), window.request_ids, strict=True):
        found.setdefault(version, set()).add(request_id)
    return found


def _scores(window: Window, feedback: tuple[Feedback, ...], metric: ExperimentMetric) -> dict[int, Floats]:
    """Each version's scores, [requests]: samples of one request count as one, for they are not independent."""
    if metric is ExperimentMetric.SCORE:
        told = {one.request_id: one.score for one in feedback if one.score is not None}
        known = ((key, told[key[1]]) for key in dict.fromkeys(_keys(window)) if key[1] in told)
        return _means({key: [score] for key, score in known})
    window, labels = labelled(window, feedback)
    judged = judge(resolve_metric(TOP1, window.outputs, labels), window.outputs, window.outputs, labels)
    by_request: dict[tuple[int, str], list[float]] = {}
    for key, right in zip(_keys(window), judged.reference.tolist(), strict=True):
        by_request.setdefault(key, []).append(float(right))
    return _means(by_request)


def _keys(window: Window) -> list[tuple[int, str]]:
    return list(zip(window.versions.tolist(), window.request_ids, strict=True))


def _means(by_request: Mapping[tuple[int, str], list[float]]) -> dict[int, Floats]:
    found: dict[int, list[float]] = {}
    for (version, _), scores in by_request.items():
        found.setdefault(version, []).append(sum(scores) / len(scores))
    return {version: np.array(means) for version, means in found.items()}


def _ms(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)
