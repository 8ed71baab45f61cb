"""Quotas: what would take a tenant beyond what it may have is refused before it is begun."""

from fastapi import HTTPException

from flows.api_auth import Caller
from flows.api_platform import Platform

_LOOKED_AT = 1000
"""Of the newest optimizations: those that still run are among them."""


def require_version(platform: Platform, who: Caller, model: str) -> None:
    """Check that a tenant may get one more version of a model, beside those that are being made.

    Args:
        platform: the stores.
        who: the caller.
        model: the model's qualified name.

    Raises:
        HTTPException: 403, the quota of models or of versions is used up.
    """
    quotas = platform.ledger.tenants.get(who.tenant).quotas
    if quotas.models is None and quotas.versions is None:
        return
    held = platform.ledger.tenants.holdings(who.tenant)
    newest = platform.ledger.listings.optimizations(who.tenant, _LOOKED_AT)
    making = [status.model for status in newest if status.state.open]
    _require("versions", quotas.versions, held.versions + len(making), 1)
    new = {name for name in (model, *making) if platform.ledger.listings.model(name) is None}
    if model in new:
        _require("models", quotas.models, held.models + len(new - {model}), 1)


def require_bytes(platform: Platform, who: Caller, size_bytes: int) -> None:
    """Check that a tenant may store some bytes more.

    Raises:
        HTTPException: 403, they do not fit into the quota of stored bytes.
    """
    limit = platform.ledger.tenants.get(who.tenant).quotas.stored_bytes
    if limit is not None:
        _require("stored_bytes", limit, platform.ledger.tenants.holdings(who.tenant).stored_bytes, size_bytes)


def own(platform: Platform, who: Caller, digest: str) -> None:
    """Note that a stored artifact is a tenant's.

    Raises:
        HTTPException: 403, it does not fit into the quota of stored bytes any more; it stays nobody's.
    """
    size_bytes = platform.artifacts.size_bytes(digest)
    if not platform.ledger.tenants.own(who.tenant, digest, size_bytes):
        require_bytes(platform, who, size_bytes)


def _require(quota: str, limit: int | None, used: int, more: int) -> None:
    if limit is not None and used + more > limit:
        raise HTTPException(
            403, f"the quota {quota} of this tenant is used up: {used} of {limit}, and {more} more asked"
        )
