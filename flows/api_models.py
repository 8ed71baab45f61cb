"""Models and versions: from the registry, and from the ledger alone, saying so, while the registry is down."""

from fastapi import APIRouter

from flows.api_bodies import ModelList, ModelSummary, ModelView, VersionView
from flows.api_platform import Platform, Stack
from registry.errors import ModelNotFound, TransientError
from registry.records.base import ModelName, VersionNumber
from registry.records.model import ModelVersion, ServedVersion
from registry.records.release import ReleaseEvent, Route

router = APIRouter(prefix="/models", tags=["models"])


@router.get("")
def models(platform: Stack) -> ModelList:
    """List every model with its route and its version numbers."""
    unavailable = None
    registered: dict[str, set[int]] = {}
    try:
        for name in platform.store.models():
            registered[name] = {version.version for version in platform.store.versions(name)}
    except TransientError as error:
        unavailable = _unavailable(error)
    names = sorted({*registered, *platform.ledger.models()})
    summaries = [
        ModelSummary(
            name=name,
            route=platform.ledger.route(name),
            versions=tuple(sorted(registered.get(name, set()) | _served(platform, name).keys())),
        )
        for name in names
    ]
    return ModelList(models=tuple(summaries), registry_unavailable=unavailable)


@router.get("/{model}")
def model_view(model: ModelName, platform: Stack) -> ModelView:
    """Return one model: its route and its versions, oldest first."""
    registered, unavailable = _registered(platform, model)
    served = _served(platform, model)
    route = platform.ledger.route(model)
    numbers = sorted({*registered, *served})
    if not numbers and route is None:
        message = f"there is no model {model!r}; `burnish models` lists those there are"
        raise ModelNotFound(f"{message} ({unavailable})" if unavailable else message)
    views = [_view(number, registered.get(number), served.get(number), route) for number in numbers]
    return ModelView(name=model, route=route, versions=tuple(views), registry_unavailable=unavailable)


@router.get("/{model}/versions")
def versions(model: ModelName, platform: Stack) -> ModelView:
    """Return a model's versions with its route, as ``/models/{model}`` does."""
    return model_view(model, platform)


@router.get("/{model}/versions/{number}")
def version(model: ModelName, number: VersionNumber, platform: Stack) -> ModelView:
    """Return one version of a model with the model's route."""
    view = model_view(model, platform)
    chosen = tuple(candidate for candidate in view.versions if candidate.version == number)
    if not chosen:
        known = ", ".join(str(candidate.version) for candidate in view.versions)
        raise ModelNotFound(f"{model} has no version {number}; it has {known}")
    return view.model_copy(update={"versions": chosen})


@router.get("/{model}/history")
def history(model: ModelName, platform: Stack) -> tuple[ReleaseEvent, ...]:
    """Return every change of a model's route."""
    platform.require_model(model)
    return platform.ledger.history(model)


def _registered(platform: Platform, model: str) -> tuple[dict[int, ModelVersion], str | None]:
    try:
        return {version.version: version for version in platform.store.versions(model)}, None
    except TransientError as error:
        return {}, _unavailable(error)


def _served(platform: Platform, model: str) -> dict[int, ServedVersion]:
    return {served.version: served for served in platform.ledger.served(model)}


def _view(
    number: int, registered: ModelVersion | None, served: ServedVersion | None, route: Route | None
) -> VersionView:
    served = served or (registered.served if registered else None)
    if served is None:
        raise ModelNotFound(f"version {number} is in neither registry nor ledger")
    share = route.split.weights.get(number, 0.0) if route else 0.0
    return VersionView(version=number, share=share, served=served, registered=registered)


def _unavailable(error: TransientError) -> str:
    return f"the registry mirror does not answer, so this is what the ledger holds: {error}"
