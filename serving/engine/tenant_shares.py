"""What each tenant's loaded versions hold in this worker, and what they may: quotas from a file beside the catalog."""

import json
import logging
import os
import tempfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from pydantic import RootModel, ValidationError

from registry.errors import TransientError
from registry.records.tenant import TenantName

LIMITS_FILE = ".tenants.json"
"""Bytes by tenant, in the catalog's folder; no model's entry can have the name. Who has no bound is left out."""

_MIB = 2**20
_log = logging.getLogger(__name__)


class _Limits(RootModel[dict[TenantName, int]]):
    """The content of the file."""


class TenantShares:
    """The account; all methods are called on the event loop."""

    def __init__(self) -> None:
        """Start with nothing loaded and no bounds."""
        self._held = Counter[str]()
        self._limits: Mapping[str, int] = {}

    def limit(self, limits: Mapping[str, int]) -> None:
        """Take what each tenant may hold, in bytes; one that is not named may hold anything."""
        self._limits = limits

    def charge(self, tenant: str, held: int) -> None:
        """Count a version that is being loaded or was, or with less than nothing one that no longer is."""
        self._held[tenant] += held

    def beyond(self, tenant: str, more: int = 0) -> bool:
        """True if a tenant holds, with so much more, beyond what it may."""
        limit = self._limits.get(tenant)
        return limit is not None and self._held[tenant] + more > limit

    def over(self) -> list[str]:
        """Return the tenants that hold more than they may."""
        return [tenant for tenant in self._limits if self.beyond(tenant)]

    def check_fits(self, tenant: str, wanted: int) -> None:
        """Check that a tenant may hold a version at all.

        Raises:
            TransientError: it is larger than all that the tenant may hold.
        """
        limit = self._limits.get(tenant)
        if limit is not None and wanted > limit:
            needed, bound = f"{wanted / _MIB:.1f} MiB", f"{limit / _MIB:.1f} MiB"
            raise TransientError(f"it needs about {needed} of memory, and its tenant may hold {bound} in a worker")


class LimitsFile:
    """The file of the quotas, read again when it is another one."""

    def __init__(self, folder: Path) -> None:
        """Take the catalog's folder; nothing is read yet."""
        self._path = folder / LIMITS_FILE
        self._stamp: tuple[int, int] | None = None

    def look(self) -> dict[str, int] | None:
        """Return what the file says if it is another than at the last look; a broken one changes nothing."""
        try:
            stat = self._path.stat()
        except FileNotFoundError:
            known, self._stamp = self._stamp, None
            return {} if known is not None else None
        stamp = stat.st_mtime_ns, stat.st_ino
        if stamp == self._stamp:
            return None
        self._stamp = stamp
        try:
            return _Limits.model_validate_json(self._path.read_bytes()).root
        except (OSError, ValidationError) as error:
            _log.error("the tenants' quotas stay as they are, %s cannot be read: %s", self._path, error)
            return None


def write_limits(folder: Path, limits: Mapping[str, int]) -> None:
    """Write the file of the quotas, so that a worker sees the old one or the new one, never a part."""
    descriptor, name = tempfile.mkstemp(dir=folder, prefix=LIMITS_FILE, suffix=".tmp")
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            json.dump(dict(sorted(limits.items())), stream)
        temporary.replace(folder / LIMITS_FILE)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
