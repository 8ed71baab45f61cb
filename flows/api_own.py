"""What is the caller's own: the model that a path names, an optimization, an upload. What is another's is not there."""

from typing import Annotated

from fastapi import Depends, Request
from fastapi import Path as PathParameter

from flows.api_auth import Caller, Who
from flows.api_platform import Platform, Stack
from registry.errors import InputError, ModelNotFound
from registry.records.base import ModelName
from registry.records.release import OptimizationStatus
from registry.records.tenant import qualified, split_name

OptimizationId = Annotated[str, PathParameter(pattern=r"^[A-Za-z0-9-]{1,64}$", description="As its start returned it.")]


def own_name(request: Request, who: Caller, model: str) -> str:
    """Return the qualified name of a caller's model; errors of this request call it as the caller does."""
    name = qualified(who.tenant, model)
    request.state.own_names = {*getattr(request.state, "own_names", ()), name}
    return name


def require_artifact(platform: Platform, who: Caller, part: str, digest: str) -> None:
    """Check that a caller has brought an artifact, and that it is still stored.

    Raises:
        InputError: there is none of this digest, or it is another tenant's.
    """
    if not (platform.ledger.tenants.owns(who.tenant, digest) and platform.artifacts.exists(digest)):
        raise InputError(f"{part}: nothing is stored under {digest}; upload it first")


async def _own_model(request: Request, model: ModelName, who: Who) -> str:
    return own_name(request, who, model)


async def _asked_model(request: Request, who: Who, model: ModelName | None = None) -> str | None:
    return None if model is None else own_name(request, who, model)


def _own_optimization(optimization_id: OptimizationId, platform: Stack, who: Who) -> OptimizationStatus:
    status = platform.ledger.optimization(optimization_id)
    if split_name(status.model)[0] != who.tenant:
        raise ModelNotFound(f"there is no optimization {optimization_id!r}")
    return status


OwnModel = Annotated[str, Depends(_own_model)]
"""The model that a path names, by its qualified name: the caller's own, whether there is one or not."""

AskedModel = Annotated[str | None, Depends(_asked_model)]
"""The caller's own model that a query names, if it names one."""

OwnOptimization = Annotated[OptimizationStatus, Depends(_own_optimization)]
"""The optimization that a path names, if it is the caller's."""
