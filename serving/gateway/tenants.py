"""Changes who may call a gateway; a running Envoy takes it at once, on open connections too."""

from pathlib import Path

from pydantic import ValidationError

from registry.errors import InputError
from registry.records.tenant import TenantState
from serving.gateway.admission import GatewayKey, GatewayTenant, GatewayTenants
from serving.gateway.files import change
from serving.gateway.state import GatewayState

__all__ = ["GatewayKey", "GatewayTenant", "set_tenants", "switch_tenant"]


def set_tenants(folder: Path, tenants: tuple[GatewayTenant, ...], *, require_keys: bool) -> None:
    """Replace the tenants of a gateway, also of one that is not configured yet.

    Args:
        folder: where the gateway's files are.
        tenants: all of them; keys that have expired or are revoked are not among theirs.
        require_keys: refuse who sends no key; otherwise they are the tenant ``default``.

    Raises:
        InputError: two tenants have one name, two keys are the same, or Envoy refuses what follows; nothing is changed.
    """
    try:
        record = GatewayTenants(require_keys=require_keys, tenants=tenants)
    except ValidationError as error:
        reasons = "; ".join(part["msg"].removeprefix("Value error, ") for part in error.errors())
        raise InputError(f"the gateway cannot take these tenants: {reasons}") from error
    change(folder, lambda state: state.model_copy(update={"admission": record}))


def switch_tenant(folder: Path, tenant: str, state: TenantState) -> None:
    """Drain, block or open a tenant by hand, beside what the ledger says of it; the stricter of both holds.

    Raises:
        InputError: the gateway knows no such tenant.
    """

    def switched(before: GatewayState) -> GatewayState:
        known = sorted(known.name for known in before.admission.tenants)
        if tenant not in known:
            raise InputError(f"the gateway knows no tenant {tenant!r}; it knows {', '.join(known)}")
        others = {name: kept for name, kept in before.switches.items() if name != tenant}
        mine = {} if state is TenantState.OPEN else {tenant: state}
        return before.model_copy(update={"switches": others | mine})

    change(folder, switched)
