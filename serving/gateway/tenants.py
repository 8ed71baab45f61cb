"""Who may call the gateway, as values, and the file that keeps them: keys in plain text, so for its owner alone."""

from collections import Counter
from pathlib import Path

from pydantic import Field, SecretStr, field_serializer

from registry.errors import InputError
from registry.records.base import Record
from registry.records.tenant import DEFAULT_TENANT, KeyId, Scope, TenantName, TenantState

TENANTS_FILE = "tenants.json"


class GatewayKey(Record):
    """One key as a client presents it."""

    id: KeyId
    key: SecretStr = Field(min_length=16)
    scopes: tuple[Scope, ...] = Field(min_length=1)

    @field_serializer("key")
    def _plain(self, key: SecretStr) -> str:
        return key.get_secret_value()


class GatewayTenant(Record):
    """One tenant as the gateway knows it; a limit that is None does not bind."""

    name: TenantName
    keys: tuple[GatewayKey, ...] = ()
    requests_per_s: float | None = Field(default=None, gt=0)
    burst: int | None = Field(default=None, ge=1, description="Requests that may come at once; None: one second's.")
    bytes_per_s: int | None = Field(default=None, ge=1, description="Of request bodies.")
    state: TenantState = TenantState.OPEN


class GatewayTenants(Record):
    """All of them; who is not named has no way in."""

    require_keys: bool = Field(default=False, description="False: who sends no key is the tenant `default`.")
    tenants: tuple[GatewayTenant, ...] = (GatewayTenant(name=DEFAULT_TENANT),)


def set_tenants(folder: Path, tenants: tuple[GatewayTenant, ...], *, require_keys: bool) -> None:
    """Replace the gateway's tenants, by rename; a running Envoy takes them at once, on open connections too.

    Args:
        folder: where the gateway's files are.
        tenants: all of them; keys that have expired or are revoked are not among theirs.
        require_keys: refuse who sends no key; otherwise they are the tenant ``default``.

    Raises:
        InputError: two tenants have one name, or two keys are the same.
    """
    _check(tenants)
    folder.mkdir(parents=True, exist_ok=True)
    record = GatewayTenants(require_keys=require_keys, tenants=tenants)
    draft = (folder / TENANTS_FILE).with_suffix(".new")
    draft.touch(mode=0o600)
    draft.write_text(record.model_dump_json(indent=1), encoding="utf-8")
    draft.replace(folder / TENANTS_FILE)


def _check(tenants: tuple[GatewayTenant, ...]) -> None:
    if twice := _twice([tenant.name for tenant in tenants]):
        raise InputError(f"each tenant may be named once, got {', '.join(twice)} more often")
    keys = [key for tenant in tenants for key in tenant.keys]
    secrets = Counter(key.key.get_secret_value() for key in keys)
    if same := sorted(key.id for key in keys if secrets[key.key.get_secret_value()] > 1):
        raise InputError(f"the keys {', '.join(same)} are the same text; a key belongs to one tenant")


def _twice(names: list[str]) -> list[str]:
    return sorted(name for name, times in Counter(names).items() if times > 1)
