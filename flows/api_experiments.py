"""Experiments: ask live traffic which version is better, look as often as one likes, end with one of them."""

from typing import Annotated

from fastapi import APIRouter
from fastapi import Path as PathParameter

from flows import api_pages, experiments, releases
from flows.api_audit import add_evidence
from flows.api_auth import Who
from flows.api_bodies import EndBody, ExperimentBody, ExperimentList, ExperimentView, ReleaseView
from flows.api_once import OnceRoute
from flows.api_own import OwnModel
from flows.api_pages import DEFAULT_LIMIT, Cursor, Limit
from flows.api_platform import Platform, Stack
from flows.api_releases import admit, await_taken
from registry.errors import InputError
from registry.records.change import Change, SetTraffic
from registry.records.experiment import Experiment, ExperimentMetric
from registry.records.model import Datatype

router = APIRouter(prefix="/models/{model}/experiments", tags=["experiments"], route_class=OnceRoute)

ExperimentId = Annotated[str, PathParameter(pattern=r"^[0-9a-f]{32}$", description="As its start returned it.")]

_FLOATS = (Datatype.FP16, Datatype.BF16, Datatype.FP32, Datatype.FP64)


@router.post("", status_code=201)
def start(model: OwnModel, body: ExperimentBody, platform: Stack, who: Who) -> Experiment:
    """Split the traffic between the champion and other versions, and compare them by what comes as feedback."""
    for version in body.split.weights:
        admit(platform, model, version)
    _require_metric(platform, model, body)
    change = Change(
        model=model,
        step=SetTraffic(split=body.split),
        actor=who.actor,
        reason=body.reason or body.hypothesis,
        expected_generation=body.expected_generation,
    )
    experiment, route = platform.ledger.experiments.start(
        change, body.split, body.metric, confidence=body.confidence, hypothesis=body.hypothesis
    )
    add_evidence(experiment=experiment.id)
    releases.publish(platform.ledger, platform.settings.catalog_folder, model)
    await_taken(platform, route)
    return experiment


@router.get("")
def experiments_of(
    model: OwnModel, platform: Stack, limit: Limit = DEFAULT_LIMIT, cursor: Cursor = None
) -> ExperimentList:
    """List a model's experiments, newest first."""
    platform.require_model(model)
    listed = ("experiments", model)
    last = api_pages.after(cursor, (api_pages.moment, api_pages.word), *listed)
    found = platform.ledger.experiments.of(model, limit + 1, after=last)
    items, following = api_pages.page(found, limit, lambda one: (one.started_at.isoformat(), one.id), *listed)
    return ExperimentList(experiments=items, next=following)


@router.get("/{experiment_id}")
def experiment(model: OwnModel, experiment_id: ExperimentId, platform: Stack) -> ExperimentView:
    """Say what is known of the arms now; looking often does not make what is said less sure."""
    return _look(platform, model, experiment_id)


@router.post("/{experiment_id}/end")
def end(model: OwnModel, experiment_id: ExperimentId, body: EndBody, platform: Stack, who: Who) -> ReleaseView:
    """End an experiment: one arm gets all traffic, the champion where none is named."""
    seen = _look(platform, model, experiment_id)
    route = platform.ledger.experiments.end(
        experiment_id, model, promote=body.promote, actor=who.actor, reason=body.reason
    )
    add_evidence(
        experiment=experiment_id, verdicts={str(arm.version): f"{arm.verdict} of {arm.scored}" for arm in seen.arms}
    )
    releases.publish(platform.ledger, platform.settings.catalog_folder, model)
    return await_taken(platform, route)


def _require_metric(platform: Platform, model: str, body: ExperimentBody) -> None:
    """Check that the answers of every arm can be scored so.

    Raises:
        InputError: one gives no classes.
    """
    if body.metric is not ExperimentMetric.TOP1:
        return
    for served in platform.ledger.served(model):
        output = served.signature.outputs[0]
        classes = len(output.shape) == 2 and output.shape[1] != 1 and output.datatype in _FLOATS
        if served.version in body.split.weights and not classes:
            raise InputError(
                f"metric: top1 needs a first output of [samples, classes] floats, version {served.version} gives "
                f"{list(output.shape)} of {output.datatype}; tell scores as feedback and ask for the metric score"
            )


def _look(platform: Platform, model: str, experiment_id: str) -> ExperimentView:
    found = platform.ledger.experiments.one(experiment_id, model)
    return experiments.look(platform.ledger, platform.settings.capture_folder, found)
