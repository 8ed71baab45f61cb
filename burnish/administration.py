"""What administrators ask of the control API: tenants, keys, audit, usage, metrics, logs."""

from collections.abc import Iterable, Mapping
from itertools import islice
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

from burnish.remote import Remote
from burnish.settings import find_endpoints

Found = dict[str, Any]


class Administration:
    """The control API as the operator, or a tenant's administrator, uses it; answers are its JSON.

    ``tenant`` is for whom the operator acts; None: the key's own tenant.
    """

    def __init__(self) -> None:
        """Find the address and the key; nothing is sent yet.

        Raises:
            InputError: the stack's file cannot be read.
        """
        found = find_endpoints()
        self._control = Remote("the control API", found.control_url, api_key=found.api_key)
        self.has_key = found.api_key is not None

    @property
    def control_url(self) -> str:
        """Base URL of the control API."""
        return self._control.base_url

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Close all connections."""
        self._control.close()

    def add_tenant(self, name: str, quotas: Mapping[str, float]) -> Found:
        """Make a tenant."""
        return dict(self._control.post("/v1/tenants", {"name": name, "quotas": dict(quotas)}))

    def tenants(self) -> list[Found]:
        """List all tenants."""
        return list(self._control.get("/v1/tenants")["tenants"])

    def tenant(self, name: str) -> Found:
        """Return a tenant, and what it has."""
        return dict(self._control.get(_tenant(name)))

    def set_quotas(self, name: str, quotas: Mapping[str, float | None]) -> Found:
        """Change the quotas that are named; None takes one away."""
        before = self.tenant(name)["tenant"]["quotas"]
        return dict(self._control.put(f"{_tenant(name)}/quotas", {**before, **quotas}))

    def remove_tenant(self, name: str) -> None:
        """Remove a tenant that has no models, with its keys."""
        self._control.delete(_tenant(name), {})

    def add_key(self, scopes: Iterable[str], label: str, tenant: str | None) -> Found:
        """Make a key; its text is in this answer only."""
        return dict(self._control.post(f"/v1/keys{_for(tenant)}", {"scopes": list(scopes), "label": label}))

    def keys(self, tenant: str | None) -> list[Found]:
        """List keys, those that no longer hold among them."""
        return list(self._control.get("/v1/keys", _params(tenant=tenant))["keys"])

    def rotate_key(self, key_id: str, overlap_s: int, tenant: str | None) -> Found:
        """Make a key like another, which ends when the overlap is over."""
        path = f"/v1/keys/{quote(key_id, safe='')}/rotate{_for(tenant)}"
        return dict(self._control.post(path, {"overlap_s": overlap_s}))

    def revoke_key(self, key_id: str, tenant: str | None) -> Found:
        """Let a key open nothing any more."""
        return dict(self._control.delete(f"/v1/keys/{quote(key_id, safe='')}", _params(tenant=tenant)))

    def audit(self, limit: int, tenant: str | None) -> list[Found]:
        """List the newest entries of the audit, newest first."""
        return list(self._control.get("/v1/audit", _params(tenant=tenant, limit=str(limit)))["entries"])

    def verify_audit(self, checkpoint: str | None) -> Found:
        """Have the audit's chain walked."""
        return dict(self._control.get("/v1/audit/verify", _params(checkpoint=checkpoint)))

    def metrics(self, tenant: str | None) -> str:
        """Return the metrics of a tenant's models in Prometheus' text format."""
        return self._control.call("GET", f"/v1/metrics{_for(tenant)}", {}).text

    def logs(self, limit: int, tenant: str | None) -> list[Found]:
        """List the newest requests of a tenant at the gateway, newest first."""
        lines = self._control.items("/v1/logs", "lines", _params(tenant=tenant, limit=str(limit)))
        return list(islice(lines, limit))

    def usage(self, *, tenant: str | None, model: str | None, since: str | None, until: str | None) -> Found:
        """Return what was used, by tenant, model and hour."""
        return dict(self._control.get("/v1/usage", _params(tenant=tenant, model=model, since=since, until=until)))


def _tenant(name: str) -> str:
    return f"/v1/tenants/{quote(name, safe='')}"


def _for(tenant: str | None) -> str:
    return f"?tenant={quote(tenant, safe='')}" if tenant else ""


def _params(**params: str | None) -> dict[str, str]:
    return {name: value for name, value in params.items() if value is not None}
