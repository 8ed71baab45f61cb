"""Tells the engine what each tenant's loaded versions may hold; the ledger knows."""

from pathlib import Path

from registry.ledger.ledger import Ledger
from serving.engine.tenant_shares import LimitsFile, write_limits


def tell(ledger: Ledger, catalog_folder: Path, workers: int) -> bool:
    """Write the quotas of memory that hold now beside the catalog; False if they stand there already.

    Each worker keeps to its equal part, so that all of them together keep to the quota.
    """
    quotas = {tenant.name: tenant.quotas.resident_bytes for tenant in ledger.tenants.all()}
    limits = {name: limit // workers for name, limit in quotas.items() if limit is not None}
    if limits == (LimitsFile(catalog_folder).look() or {}):
        return False
    catalog_folder.mkdir(parents=True, exist_ok=True)
    write_limits(catalog_folder, limits)
    return True
