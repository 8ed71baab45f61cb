"""Who may call the gateway, as values."""

from collections import Counter

from pydantic import Field, SecretStr, field_serializer, model_validator

from registry.records.base import Record
from registry.records.tenant import DEFAULT_TENANT, KeyId, Scope, TenantName, TenantState


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

    @model_validator(mode="after")
    def _each_name_and_key_once(self) -> "GatewayTenants":
        if twice := _twice([tenant.name for tenant in self.tenants]):
            raise ValueError(f"each tenant may be named once, got {', '.join(sorted(twice))} more often")
        keys = [key for tenant in self.tenants for key in tenant.keys]
        same = _twice([key.key.get_secret_value() for key in keys])
        if ids := sorted(key.id for key in keys if key.key.get_secret_value() in same):
            raise ValueError(f"the keys {', '.join(ids)} are the same text; a key belongs to one tenant")
        return self


def _twice(names: list[str]) -> set[str]:
    return {name for name, times in Counter(names).items() if times > 1}
