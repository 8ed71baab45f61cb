"""Promote and roll back: ledger, then catalog, then wait for the workers; the mirrors follow by themselves."""

from fastapi import APIRouter

from flows import releases
from flows.api_bodies import FlowRun, PromoteBody, ReleaseView, RetrainBody, RollbackBody
from flows.api_platform import Platform, Stack
from registry.errors import InputError
from registry.records.base import ModelName
from registry.records.release import Feedback, Route

router = APIRouter(tags=["releases"])

ACTOR = "control API"


@router.post("/models/{model}/promote")
def promote(model: ModelName, body: PromoteBody, platform: Stack) -> ReleaseView:
    """Make a version the champion; the answer says which workers serve it already."""
    _admit(platform, model, body.version)
    route = releases.promote(
        platform.ledger,
        platform.settings.catalog_folder,
        model,
        body.version,
        actor=ACTOR,
        reason=body.reason,
        expected_generation=body.expected_generation,
    )
    return _released(platform, route)


@router.post("/models/{model}/rollback")
def rollback(model: ModelName, body: RollbackBody, platform: Stack) -> ReleaseView:
    """Return a model to the champion before the current one."""
    route = releases.rollback(
        platform.ledger,
        platform.settings.catalog_folder,
        model,
        actor=ACTOR,
        reason=body.reason,
        expected_generation=body.expected_generation,
    )
    return _released(platform, route)


@router.post("/models/{model}/monitor", status_code=202, tags=["watching"])
def monitor(model: ModelName, platform: Stack) -> FlowRun:
    """Start the flow that makes a drift report of the captured requests."""
    platform.require_model(model)
    return platform.deployments.start("monitor", {"model": model})


@router.post("/models/{model}/retrain", status_code=202, tags=["watching"])
def retrain(model: ModelName, body: RetrainBody, platform: Stack) -> FlowRun:
    """Start the flow that trains on the captured window and hands the new model to `optimize`."""
    platform.require_model(model)
    trainers = platform.settings.trainers
    if body.trainer is not None and body.trainer not in trainers:
        raise InputError(f"{body.trainer!r} is not one of this stack's trainers: {', '.join(trainers)}")
    parameters = {"model": model} if body.trainer is None else {"model": model, "trainer": body.trainer}
    return platform.deployments.start("retrain", parameters)


@router.post("/feedback", status_code=202, tags=["watching"])
def feedback(body: Feedback, platform: Stack) -> Feedback:
    """Keep the true answer to one request."""
    platform.require_model(body.model)
    platform.ledger.add_feedback(body)
    return body


def _admit(platform: Platform, model: str, version: int) -> None:
    """Bring a registered version that the ledger does not hold yet, such as one never released, into the ledger."""
    if all(served.version != version for served in platform.ledger.served(model)):
        platform.ledger.admit(model, platform.store.version(model, version).served)


def _released(platform: Platform, route: Route) -> ReleaseView:
    platform.reconciler.wake()
    answer = platform.workers.await_generation(route.model, route.generation)
    return ReleaseView(route=route, acknowledged=answer.acknowledged, pending=answer.pending)
