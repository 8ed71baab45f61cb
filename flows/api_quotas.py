"""Quotas: what would take a tenant beyond what it may have is refused before it is begun."""

from fastapi import HTTPException

from flows.api_auth import Caller
from flows.api_platform import Platform
from registry.ledger.tenants import Shortage
from registry.records.release import OptimizationStatus


def begin(platform: Platform, status: OptimizationStatus) -> None:
    """Note an optimization as begun, if its tenant may get one more version; checked and noted in one transaction.

    Raises:
        HTTPException: 403, the quota of models or of versions is used up.
    """
    _allow(platform.ledger.tenants.claim_version(status))


def require_version(platform: Platform, model: str) -> None:
    """Check that a model's tenant may get one more version of it, which is claimed once its making begins.

    Raises:
        HTTPException: 403, the quota of models or of versions is used up.
    """
    _allow(platform.ledger.tenants.version_shortage(model))


def require_bytes(platform: Platform, who: Caller, size_bytes: int) -> None:
    """Check that a tenant may store some bytes more.

    Raises:
        HTTPException: 403, they do not fit into the quota of stored bytes.
    """
    limit = platform.ledger.tenants.get(who.tenant).quotas.stored_bytes
    if limit is None:
        return
    stored = platform.ledger.tenants.holdings(who.tenant).stored_bytes
    if stored + size_bytes > limit:
        raise HTTPException(403, str(Shortage("stored_bytes", stored, limit, size_bytes)))


def own(platform: Platform, who: Caller, digest: str) -> None:
    """Note that a stored artifact is a tenant's.

    Raises:
        HTTPException: 403, it does not fit into the quota of stored bytes any more; it stays nobody's.
    """
    size_bytes = platform.artifacts.size_bytes(digest)
    if not platform.ledger.tenants.own(who.tenant, digest, size_bytes):
        require_bytes(platform, who, size_bytes)


def _allow(short: Shortage | None) -> None:
    if short is not None:
        raise HTTPException(403, str(short))
