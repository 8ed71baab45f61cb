"""Changes of a route: ledger, then catalog, then wait for the workers; the mirrors follow by themselves."""

from typing import Annotated

from fastapi import APIRouter, Query, Response
from fastapi.responses import JSONResponse

from flows import api_etags, releases
from flows.api_bodies import (
    ChangeBody,
    PolicyBody,
    PolicyView,
    PromoteBody,
    Reason,
    ReleaseView,
    ShadowBody,
    TrafficBody,
    TrafficView,
)
from flows.api_etags import CHANGED, TAGGED, IfMatch, IfNoneMatch
from flows.api_once import OnceRoute
from flows.api_platform import Platform, Stack
from registry.records.base import ModelName
from registry.records.change import Change, Promote, RollBack, SetPolicy, SetShadow, SetTraffic, Step
from registry.records.release import Route, ServingPolicy

router = APIRouter(prefix="/models/{model}", tags=["releases"], route_class=OnceRoute)

ACTOR = "control API"


@router.post("/promote", response_model=ReleaseView, responses=CHANGED)
def promote(model: ModelName, body: PromoteBody, platform: Stack, if_match: IfMatch = None) -> Response:
    """Make a version the champion; the answer says which workers serve it already."""
    _admit(platform, model, body.version)
    return _change(platform, model, Promote(version=body.version), body, if_match)


@router.post("/rollback", response_model=ReleaseView, responses=CHANGED)
def rollback(model: ModelName, body: ChangeBody, platform: Stack, if_match: IfMatch = None) -> Response:
    """Return a model to the champion before the current one."""
    return _change(platform, model, RollBack(), body, if_match)


@router.get("/policy", response_model=PolicyView, responses=TAGGED)
def policy(model: ModelName, platform: Stack, if_none_match: IfNoneMatch = None) -> Response:
    """Return how a model is served."""
    route = _route(platform, model)
    found = PolicyView(generation=0, policy=ServingPolicy())
    if route is not None:
        found = PolicyView(generation=route.generation, policy=route.policy)
    return api_etags.answer(found, api_etags.tag(found.generation), if_none_match)


@router.put("/policy", response_model=ReleaseView, responses=CHANGED)
def set_policy(model: ModelName, body: PolicyBody, platform: Stack, if_match: IfMatch = None) -> Response:
    """Serve a live model by another policy."""
    return _change(platform, model, SetPolicy(policy=body.policy), body, if_match)


@router.get("/traffic", response_model=TrafficView, responses=TAGGED)
def traffic(model: ModelName, platform: Stack, if_none_match: IfNoneMatch = None) -> Response:
    """Return which versions answer which percentages of the requests."""
    route = _route(platform, model)
    found = TrafficView(generation=0, champion=None, split=None)
    if route is not None:
        found = TrafficView(generation=route.generation, champion=route.champion, split=route.split)
    return api_etags.answer(found, api_etags.tag(found.generation), if_none_match)


@router.put("/traffic", response_model=ReleaseView, responses=CHANGED)
def set_traffic(model: ModelName, body: TrafficBody, platform: Stack, if_match: IfMatch = None) -> Response:
    """Split the requests between the champion and other versions, by percentages that sum to 100."""
    for version in body.split.weights:
        _admit(platform, model, version)
    return _change(platform, model, SetTraffic(split=body.split), body, if_match)


@router.put("/shadow", response_model=ReleaseView, responses=CHANGED)
def set_shadow(model: ModelName, body: ShadowBody, platform: Stack, if_match: IfMatch = None) -> Response:
    """Let a version that is not live compute a share of the requests after they were answered."""
    _admit(platform, model, body.shadow.version)
    return _change(platform, model, SetShadow(shadow=body.shadow), body, if_match)


@router.delete("/shadow", response_model=ReleaseView, responses=CHANGED)
def end_shadow(
    model: ModelName,
    platform: Stack,
    reason: Annotated[Reason, Query()] = "",
    if_match: IfMatch = None,
) -> Response:
    """Let no version shadow a model any more."""
    return _change(platform, model, SetShadow(shadow=None), ChangeBody(reason=reason), if_match)


def _route(platform: Platform, model: str) -> Route | None:
    platform.require_model(model)
    return platform.ledger.route(model)


def _admit(platform: Platform, model: str, version: int) -> None:
    """Bring a registered version that the ledger does not hold yet, such as one never released, into the ledger."""
    if all(served.version != version for served in platform.ledger.served(model)):
        platform.ledger.admit(model, platform.store.version(model, version).served)


def _change(platform: Platform, model: str, step: Step, body: ChangeBody, if_match: str | None) -> Response:
    seen = platform.ledger.route(model) if if_match is not None else None
    change = Change(
        model=model,
        step=step,
        actor=ACTOR,
        reason=body.reason,
        expected_generation=api_etags.expected(if_match, body.expected_generation, seen.generation if seen else 0),
    )
    with api_etags.precondition(if_match):
        route = releases.change_route(platform.ledger, platform.settings.catalog_folder, change)
    platform.reconciler.wake()
    taken = platform.workers.await_generation(model, route.generation)
    view = ReleaseView(route=route, acknowledged=taken.acknowledged, pending=taken.pending)
    return JSONResponse(view.model_dump(mode="json"), headers={"ETag": api_etags.tag(route.generation)})
