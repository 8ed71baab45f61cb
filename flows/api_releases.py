"""Promote and roll back: ledger, then catalog, then wait for the workers; the mirrors follow by themselves."""

from fastapi import APIRouter

from flows import releases
from flows.api_bodies import PromoteBody, ReleaseView, RollbackBody
from flows.api_platform import Platform, Stack
from registry.records.base import ModelName
from registry.records.release import Route

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


def _admit(platform: Platform, model: str, version: int) -> None:
    """Bring a registered version that the ledger does not hold yet, such as one never released, into the ledger."""
    if all(served.version != version for served in platform.ledger.served(model)):
        platform.ledger.admit(model, platform.store.version(model, version).served)


def _released(platform: Platform, route: Route) -> ReleaseView:
    platform.reconciler.wake()
    answer = platform.workers.await_generation(route.model, route.generation)
    return ReleaseView(route=route, acknowledged=answer.acknowledged, pending=answer.pending)
