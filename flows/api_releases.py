"""Changes of a route: ledger, then catalog, then wait for the workers; the mirrors follow by themselves."""

from typing import Annotated

from fastapi import APIRouter, Query, Response

from flows import api_etags, api_names, releases
from flows.api_audit import add_evidence
from flows.api_auth import Caller, Who
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
from flows.api_own import OwnModel
from flows.api_platform import Platform, Stack
from registry.errors import ModelNotFound
from registry.records.change import Change, Promote, RollBack, SetPolicy, SetShadow, SetTraffic, Step
from registry.records.release import Route, ServingPolicy

router = APIRouter(prefix="/models/{model}", tags=["releases"], route_class=OnceRoute)


@router.post("/promote", response_model=ReleaseView, responses=CHANGED)
def promote(model: OwnModel, body: PromoteBody, platform: Stack, who: Who, if_match: IfMatch = None) -> Response:
    """Make a version the champion; the answer says which workers serve it already."""
    admit(platform, model, body.version)
    return _change(platform, who, model, Promote(version=body.version), body, if_match)


@router.post("/rollback", response_model=ReleaseView, responses=CHANGED)
def rollback(model: OwnModel, body: ChangeBody, platform: Stack, who: Who, if_match: IfMatch = None) -> Response:
    """Return a model to the champion before the current one."""
    return _change(platform, who, model, RollBack(), body, if_match)


@router.get("/policy", response_model=PolicyView, responses=TAGGED)
def policy(model: OwnModel, platform: Stack, if_none_match: IfNoneMatch = None) -> Response:
    """Return how a model is served."""
    route = _route(platform, model)
    found = PolicyView(generation=0, policy=ServingPolicy())
    if route is not None:
        found = PolicyView(generation=route.generation, policy=route.policy)
    return api_etags.answer(found, api_etags.tag(found.generation), if_none_match)


@router.put("/policy", response_model=ReleaseView, responses=CHANGED)
def set_policy(model: OwnModel, body: PolicyBody, platform: Stack, who: Who, if_match: IfMatch = None) -> Response:
    """Serve a live model by another policy."""
    return _change(platform, who, model, SetPolicy(policy=body.policy), body, if_match)


@router.get("/traffic", response_model=TrafficView, responses=TAGGED)
def traffic(model: OwnModel, platform: Stack, if_none_match: IfNoneMatch = None) -> Response:
    """Return which versions answer which percentages of the requests."""
    route = _route(platform, model)
    found = TrafficView(generation=0, champion=None, split=None)
    if route is not None:
        found = TrafficView(generation=route.generation, champion=route.champion, split=route.split)
    return api_etags.answer(found, api_etags.tag(found.generation), if_none_match)


@router.put("/traffic", response_model=ReleaseView, responses=CHANGED)
def set_traffic(model: OwnModel, body: TrafficBody, platform: Stack, who: Who, if_match: IfMatch = None) -> Response:
    """Split the requests between the champion and other versions, by percentages that sum to 100."""
    for version in body.split.weights:
        admit(platform, model, version)
    return _change(platform, who, model, SetTraffic(split=body.split), body, if_match)


@router.put("/shadow", response_model=ReleaseView, responses=CHANGED)
def set_shadow(model: OwnModel, body: ShadowBody, platform: Stack, who: Who, if_match: IfMatch = None) -> Response:
    """Let a version that is not live compute a share of the requests after they were answered."""
    admit(platform, model, body.shadow.version)
    return _change(platform, who, model, SetShadow(shadow=body.shadow), body, if_match)


@router.delete("/shadow", response_model=ReleaseView, responses=CHANGED)
def end_shadow(
    model: OwnModel,
    platform: Stack,
    who: Who,
    reason: Annotated[Reason, Query()] = "",
    if_match: IfMatch = None,
) -> Response:
    """Let no version shadow a model any more."""
    return _change(platform, who, model, SetShadow(shadow=None), ChangeBody(reason=reason), if_match)


def _route(platform: Platform, model: str) -> Route | None:
    platform.require_model(model)
    return platform.ledger.route(model)


def admit(platform: Platform, model: str, version: int) -> None:
    """Bring a registered version that the ledger does not hold yet, such as one never released, into the ledger.

    Raises:
        ModelNotFound: there is no such version.
    """
    if any(served.version == version for served in platform.ledger.served(model)):
        return
    try:
        registered = platform.store.version(model, version)
    except ModelNotFound as error:
        told = f"there is no version {version} of {model!r}; `burnish versions {model}` lists those there are"
        raise ModelNotFound(told) from error
    platform.ledger.admit(model, registered.served)


def _change(
    platform: Platform, who: Caller, model: str, step: Step, body: ChangeBody, if_match: str | None
) -> Response:
    seen = platform.ledger.route(model) if if_match is not None else None
    change = Change(
        model=model,
        step=step,
        actor=who.actor,
        reason=body.reason,
        expected_generation=api_etags.expected(if_match, body.expected_generation, seen.generation if seen else 0),
    )
    with api_etags.precondition(if_match):
        route = releases.change_route(platform.ledger, platform.settings.catalog_folder, change)
    view = await_taken(platform, route)
    return api_names.answer(view, headers={"ETag": api_etags.tag(route.generation)})


def await_taken(platform: Platform, route: Route) -> ReleaseView:
    """Tell the audit what is in force now, and wait until the workers serve it or say which do not yet."""
    add_evidence(**releases.evidence_of(platform.ledger, route))
    platform.reconciler.wake(route.model)
    taken = platform.workers.await_generation(route.model, route.generation)
    return ReleaseView(route=route, acknowledged=taken.acknowledged, pending=taken.pending)
