"""Models and versions: from the ledger, and what only the registry knows of a version, unless the registry is down."""

from typing import Annotated

from fastapi import APIRouter, Query, Response

from flows import api_etags, api_pages
from flows.api_auth import Who
from flows.api_bodies import ModelList, ModelSummary, ReleaseEventList, VersionList, VersionView
from flows.api_etags import TAGGED, IfNoneMatch
from flows.api_names import ShortNamesRoute
from flows.api_own import OwnModel
from flows.api_pages import DEFAULT_LIMIT, Cursor, Limit
from flows.api_platform import Platform, Stack
from registry.errors import ModelNotFound, TransientError
from registry.ledger.listings import ListedModel
from registry.records.base import VersionNumber
from registry.records.model import ModelVersion, ServedVersion
from registry.records.release import Route

router = APIRouter(prefix="/models", tags=["models"], route_class=ShortNamesRoute)

_PART_OF_NAME = r"^[a-z0-9_-]{1,63}$"
Prefix = Annotated[str | None, Query(pattern=_PART_OF_NAME, description="What the name begins with.")]
Contains = Annotated[str | None, Query(pattern=_PART_OF_NAME, description="What the name holds anywhere.")]


@router.get("")
def models(
    platform: Stack,
    who: Who,
    prefix: Prefix = None,
    contains: Contains = None,
    limit: Limit = DEFAULT_LIMIT,
    cursor: Cursor = None,
) -> ModelList:
    """List models by name, each with its route and its version numbers."""
    listed = ("models", prefix, contains)
    (last,) = api_pages.after(cursor, (api_pages.word,), *listed) or (None,)
    found = platform.ledger.listings.models(
        who.tenant, limit + 1, after=last, prefix=prefix or "", contains=contains or ""
    )
    items, following = api_pages.page(found, limit, lambda model: (model.name,), *listed)
    return ModelList(models=tuple(_summary(model) for model in items), next=following)


@router.get("/{model}", response_model=ModelSummary, responses=TAGGED)
def model_view(model: OwnModel, platform: Stack, if_none_match: IfNoneMatch = None) -> Response:
    """Return one model: what serves of it, and the numbers of its versions."""
    found = _summary(_listed(platform, model))
    etag = api_etags.tag(found.route.generation if found.route else 0, found)
    return api_etags.answer(found, etag, if_none_match)


@router.get("/{model}/versions")
def versions(model: OwnModel, platform: Stack, limit: Limit = DEFAULT_LIMIT, cursor: Cursor = None) -> VersionList:
    """List a model's versions, oldest first, with its route."""
    listed = ("versions", model)
    (last,) = api_pages.after(cursor, (api_pages.number,), *listed) or (0,)
    everything = _versions(platform, model)
    found = [version for version in everything.versions if version.version > last]
    items, following = api_pages.page(found, limit, lambda version: (version.version,), *listed)
    return everything.model_copy(update={"versions": items, "next": following})


@router.get("/{model}/versions/{number}")
def version(model: OwnModel, number: VersionNumber, platform: Stack) -> VersionList:
    """Return one version of a model with the model's route."""
    view = _versions(platform, model)
    chosen = tuple(candidate for candidate in view.versions if candidate.version == number)
    if not chosen:
        known = ", ".join(str(candidate.version) for candidate in view.versions)
        raise ModelNotFound(f"{model} has no version {number}; it has {known}")
    return view.model_copy(update={"versions": chosen})


@router.get("/{model}/history")
def history(model: OwnModel, platform: Stack, limit: Limit = DEFAULT_LIMIT, cursor: Cursor = None) -> ReleaseEventList:
    """List the changes of a model's route, oldest first."""
    platform.require_model(model)
    listed = ("history", model)
    (last,) = api_pages.after(cursor, (api_pages.number,), *listed) or (0,)
    found = platform.ledger.listings.events(model, limit + 1, after=last)
    items, following = api_pages.page(found, limit, lambda event: (event.generation,), *listed)
    return ReleaseEventList(events=items, next=following)


def _listed(platform: Platform, model: str) -> ListedModel:
    found = platform.ledger.listings.model(model)
    if found is None:
        raise ModelNotFound(f"there is no model {model!r}; `burnish models` lists those there are")
    return found


def _summary(listed: ListedModel) -> ModelSummary:
    return ModelSummary(name=listed.name, route=listed.route, versions=listed.versions)


def _versions(platform: Platform, model: str) -> VersionList:
    registered, unavailable = _registered(platform, model)
    served = {served.version: served for served in platform.ledger.served(model)}
    route = platform.ledger.route(model)
    numbers = sorted({*registered, *served})
    if not numbers and route is None:
        message = f"there is no model {model!r}; `burnish models` lists those there are"
        raise ModelNotFound(f"{message} ({unavailable})" if unavailable else message)
    views = [_view(number, registered.get(number), served.get(number), route) for number in numbers]
    return VersionList(name=model, route=route, versions=tuple(views), registry_unavailable=unavailable)


def _registered(platform: Platform, model: str) -> tuple[dict[int, ModelVersion], str | None]:
    try:
        return {version.version: version for version in platform.store.versions(model)}, None
    except TransientError as error:
        return {}, f"the registry mirror does not answer, so this is what the ledger holds: {error}"


def _view(
    number: int, registered: ModelVersion | None, served: ServedVersion | None, route: Route | None
) -> VersionView:
    served = served or (registered.served if registered else None)
    if served is None:
        raise ModelNotFound(f"version {number} is in neither registry nor ledger")
    share = route.split.weights.get(number, 0.0) if route else 0.0
    return VersionView(version=number, share=share, served=served, registered=registered)
