"""Changes of a route: ledger, then catalog, then wait for the workers; the mirrors follow by themselves."""

from typing import Annotated

from fastapi import APIRouter, Query

from flows import releases
from flows.api_bodies import PolicyBody, PolicyView, PromoteBody, ReleaseView, RollbackBody, ShadowBody
from flows.api_platform import Platform, Stack
from registry.records.base import ModelName
from registry.records.release import Route, ServingPolicy

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


@router.get("/models/{model}/policy")
def policy(model: ModelName, platform: Stack) -> PolicyView:
    """Return how a model is served."""
    platform.require_model(model)
    route = platform.ledger.route(model)
    if route is None:
        return PolicyView(generation=0, policy=ServingPolicy())
    return PolicyView(generation=route.generation, policy=route.policy)


@router.put("/models/{model}/policy")
def set_policy(model: ModelName, body: PolicyBody, platform: Stack) -> ReleaseView:
    """Serve a live model by another policy."""
    route = releases.set_policy(
        platform.ledger,
        platform.settings.catalog_folder,
        model,
        body.policy,
        actor=ACTOR,
        reason=body.reason,
        expected_generation=body.expected_generation,
    )
    return _released(platform, route)


@router.put("/models/{model}/shadow")
def set_shadow(model: ModelName, body: ShadowBody, platform: Stack) -> ReleaseView:
    """Let a version that is not live compute a share of the requests after they were answered."""
    _admit(platform, model, body.shadow.version)
    route = releases.set_shadow(
        platform.ledger,
        platform.settings.catalog_folder,
        model,
        body.shadow,
        actor=ACTOR,
        reason=body.reason,
        expected_generation=body.expected_generation,
    )
    return _released(platform, route)


@router.delete("/models/{model}/shadow")
def end_shadow(model: ModelName, platform: Stack, reason: Annotated[str, Query(max_length=1000)] = "") -> ReleaseView:
    """Let no version shadow a model any more."""
    route = releases.set_shadow(
        platform.ledger, platform.settings.catalog_folder, model, None, actor=ACTOR, reason=reason
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
