"""Experiments in the ledger: one at a time, begun and ended together with the route, on SQLite and Postgres."""

from concurrent.futures import Future, ThreadPoolExecutor, wait
from datetime import timedelta
from typing import Any

import pytest

from registry.errors import InputError, ModelNotFound, VersionConflict
from registry.ledger import routes
from registry.ledger.ledger import Ledger
from registry.records.change import Promote, SetTraffic
from registry.records.experiment import Experiment, ExperimentMetric
from registry.records.release import Feedback, Route, TrafficSplit
from tests.drafts import change, served

HALVES = TrafficSplit(weights={1: 50, 2: 50})


@pytest.fixture
def ledger(ledger: Ledger) -> Ledger:
    """A ledger with versions 1, 2 and 3 of the model digits, the first of them live."""
    for version in (1, 2, 3):
        ledger.admit("digits", served(version))
    ledger.change_route(change(Promote(version=1)))
    return ledger


def start(ledger: Ledger, split: TrafficSplit = HALVES, expected: int | None = None) -> tuple[Experiment, Route]:
    step = change(SetTraffic(split=split), expected_generation=expected)
    return ledger.experiments.start(step, split, ExperimentMetric.SCORE, confidence=0.9, hypothesis="2 is better")


def end(ledger: Ledger, experiment: Experiment, promote: int | None = None) -> Route:
    return ledger.experiments.end(experiment.id, "digits", promote=promote, actor="ana", reason="seen")


def test_an_experiment_begins_with_its_split_and_ends_with_one_version(ledger: Ledger) -> None:
    begun, route = start(ledger)
    assert (route.split, begun.split, begun.generation, begun.control) == (HALVES, HALVES, route.generation, 1)
    assert ledger.experiments.one(begun.id, "digits") == begun
    assert end(ledger, begun, promote=2).split.weights == {2: 100}
    ended = ledger.experiments.one(begun.id, "digits")
    assert (ended.promoted, ended.ended_at is not None) == (2, True)
    with pytest.raises(VersionConflict, match="ended at"):
        end(ledger, begun)
    again, _ = start(ledger, TrafficSplit(weights={2: 90, 3: 10}))
    assert end(ledger, again).split.weights == {2: 100}, "the champion where none is named"
    assert [one.id for one in ledger.experiments.of("digits", 9)] == [again.id, begun.id]
    assert [one.id for one in ledger.experiments.of("digits", 9, after=(again.started_at, again.id))] == [begun.id]
    later = again.started_at + timedelta(days=1)
    assert [one.id for one in ledger.experiments.of("digits", 1, after=(later, "0"))] == [again.id]
    actions = [(event.action, event.champion) for event in ledger.history("digits")]
    assert actions[1:] == [("traffic", 1), ("promote", 2), ("traffic", 2), ("traffic", 2)]


def test_what_cannot_begin_leaves_the_route_as_it_was(ledger: Ledger) -> None:
    before = ledger.route("digits")
    with pytest.raises(InputError, match="two versions"):
        start(ledger, TrafficSplit(weights={1: 100}))
    with pytest.raises(InputError, match="champion"):
        start(ledger, TrafficSplit(weights={2: 50, 3: 50}))
    with pytest.raises(ModelNotFound, match="version 9"):
        start(ledger, TrafficSplit(weights={1: 50, 9: 50}))
    with pytest.raises(VersionConflict, match="generation"):
        start(ledger, expected=7)
    assert ledger.route("digits") == before
    begun, route = start(ledger)
    with pytest.raises(VersionConflict, match=begun.id):
        start(ledger, TrafficSplit(weights={1: 80, 3: 20}))
    assert ledger.route("digits") == route
    assert ledger.experiments.of("digits", 9) == (begun,)


def test_a_route_that_was_changed_meanwhile_stays_unless_an_arm_is_named(ledger: Ledger) -> None:
    begun, _ = start(ledger)
    changed = ledger.change_route(change(Promote(version=3)))
    assert end(ledger, begun) == changed
    again, _ = start(ledger, TrafficSplit(weights={3: 50, 1: 50}))
    ledger.change_route(change(Promote(version=2)))
    with pytest.raises(InputError, match="arms are 1, 3"):
        end(ledger, again, promote=2)
    assert end(ledger, again, promote=1).split.weights == {1: 100}


def test_a_change_in_the_moment_of_the_end_is_not_undone(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    begun, _ = start(ledger)
    mine = TrafficSplit(weights={1: 70, 3: 30})
    read = routes.read_route
    with ThreadPoolExecutor(1) as other:

        def overtaken(connection: Any, model: str) -> Route | None:  # noqa: ANN401
            monkeypatch.undo()
            found = read(connection, model)
            changes.append(other.submit(ledger.change_route, change(SetTraffic(split=mine))))
            wait(changes, timeout=0.5)  # it waits for the end where that has locked the model
            return found

        changes: list[Future[Route]] = []
        monkeypatch.setattr(routes, "read_route", overtaken)
        end(ledger, begun)
    assert changes[0].result().split == mine
    assert getattr(ledger.route("digits"), "split", None) == mine


def test_an_experiment_is_found_under_its_own_model_only(ledger: Ledger) -> None:
    begun, _ = start(ledger)
    for model, experiment_id in (("other", begun.id), ("digits", "0" * 32)):
        with pytest.raises(ModelNotFound, match="no experiment"):
            ledger.experiments.one(experiment_id, model)
        with pytest.raises(ModelNotFound, match="no experiment"):
            ledger.experiments.end(experiment_id, model, promote=None, actor="ana", reason="")
    assert ledger.experiments.of("other", 9) == ()


def test_feedback_is_labels_or_a_score(ledger: Ledger) -> None:
    told = (
        Feedback(model="digits", request_id="a", labels=(1, 2)),
        Feedback(model="digits", request_id="b", score=0.25),
    )
    for one in told:
        ledger.add_feedback(one)
    assert ledger.feedback("digits") == told
    assert ledger.feedback_on("digits", "b") == told[1]
    for wrong in ({}, {"score": 1.5}, {"score": float("nan")}):
        with pytest.raises(ValueError, match="score"):
            Feedback.model_validate({"model": "digits", "request_id": "c", **wrong})
