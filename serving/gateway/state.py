"""All that a gateway's configuration follows from, as one record in one file that only its owner may read."""

from collections.abc import Iterator
from contextlib import contextmanager
from fcntl import LOCK_EX, flock
from pathlib import Path

from pydantic import Field

from registry.records.base import Record
from registry.records.tenant import TenantName, TenantState
from serving.gateway.admission import GatewayTenants
from serving.gateway.plan import Endpoint, GatewayPlan

STATE_FILE = "gateway.json"
_LOCK_FILE = "gateway.lock"
_STRICTNESS = (TenantState.OPEN, TenantState.DRAINING, TenantState.BLOCKED)


class GatewayState(Record):
    """The last known good one."""

    plan: GatewayPlan | None = Field(default=None, description="None until a stack was started.")
    out: tuple[Endpoint, ...] = Field(default=(), description="Workers that get no new request.")
    admission: GatewayTenants = GatewayTenants()
    switches: dict[TenantName, TenantState] = Field(default_factory=dict, description="What was switched by hand.")

    def admitted(self) -> GatewayTenants:
        """Return the tenants with what was switched by hand; the stricter of both holds."""
        tenants = tuple(
            tenant.model_copy(update={"state": max(tenant.state, self._switch(tenant.name), key=_STRICTNESS.index)})
            for tenant in self.admission.tenants
        )
        require_keys = self.admission.require_keys or (self.plan is not None and self.plan.require_keys)
        return GatewayTenants(require_keys=require_keys, tenants=tenants)

    def _switch(self, tenant: str) -> TenantState:
        return self.switches.get(tenant, TenantState.OPEN)


def read_state(folder: Path) -> GatewayState:
    """Return the state of the gateway whose files are in a folder."""
    path = folder / STATE_FILE
    return GatewayState.model_validate_json(path.read_bytes()) if path.exists() else GatewayState()


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other processes from changing the same gateway meanwhile."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / _LOCK_FILE).open("w") as stream:
        flock(stream, LOCK_EX)
        yield


def write_private(path: Path, text: str) -> None:
    """Put a file in place by one rename, readable by its owner alone."""
    draft = path.with_name(f"{path.name}.new")
    draft.unlink(missing_ok=True)
    draft.touch(mode=0o600)
    draft.write_text(text, encoding="utf-8")
    draft.replace(path)
