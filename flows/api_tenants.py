"""Tenants and keys: made, bounded, switched off, rotated, revoked."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Annotated

from fastapi import APIRouter, Path, Response
from pydantic import Field, JsonValue, SecretStr

from flows import api_etags, api_names
from flows.api_audit import add_evidence
from flows.api_auth import Caller, Operator, Who, needs
from flows.api_etags import CHANGED, TAGGED, IfMatch, IfNoneMatch
from flows.api_once import OnceRoute
from flows.api_platform import Platform, Stack
from flows.tenants import MadeKey
from registry.errors import ModelNotFound
from registry.records.base import NO_NUL, Record
from registry.records.tenant import ApiKey, KeyId, Quotas, Scope, Tenant, TenantName, TenantState

tenants_router = APIRouter(prefix="/tenants", tags=["tenants"], route_class=OnceRoute)
keys_router = APIRouter(prefix="/keys", tags=["keys"], route_class=OnceRoute, dependencies=[needs(Scope.ADMIN)])

DEFAULT_OVERLAP_S = 86_400
MAX_OVERLAP_S = 90 * 86_400
_NO_STORE = {"Cache-Control": "no-store"}

NamedTenant = Annotated[TenantName, Path(alias="tenant_name")]


class TenantBody(Record):
    """A tenant to make."""

    name: TenantName
    quotas: Quotas = Quotas()


class StateBody(Record):
    """Whether the gateway shall let a tenant's requests through."""

    state: TenantState


class TenantView(Record):
    """A tenant, and what it has of what its quotas bound."""

    tenant: Tenant
    models: int
    versions: int
    stored_bytes: int


class TenantList(Record):
    """All tenants, by name."""

    tenants: tuple[Tenant, ...]


class KeyBody(Record):
    """A key to make."""

    scopes: tuple[Scope, ...] = Field(min_length=1)
    label: str = Field(default="", max_length=200, pattern=NO_NUL)


class RotateBody(Record):
    """How long the old key holds beside the new one."""

    overlap_s: int = Field(default=DEFAULT_OVERLAP_S, ge=0, le=MAX_OVERLAP_S)


class KeyView(Record):
    """What there is to see of a key."""

    id: KeyId
    tenant: TenantName
    scopes: tuple[Scope, ...]
    label: str
    made_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    holds: bool


class NewKeyView(KeyView):
    """A new key with its text, which is never shown again."""

    text: str = Field(repr=False)


class KeyList(Record):
    """Keys, oldest first; those that no longer hold are among them."""

    keys: tuple[KeyView, ...]


@tenants_router.post("", status_code=201)
def add_tenant(body: TenantBody, platform: Stack, who: Operator) -> Tenant:
    """Make a tenant."""
    made = platform.ledger.tenants.add(body.name, body.quotas)
    add_evidence(tenant=body.name, quotas=body.quotas.model_dump(mode="json"))
    platform.key_ring.tell()
    return made


@tenants_router.get("")
def tenants(platform: Stack, who: Operator) -> TenantList:
    """List all tenants."""
    return TenantList(tenants=platform.ledger.tenants.all())


@tenants_router.get("/{tenant_name}", response_model=TenantView, responses=TAGGED)
def tenant(tenant_name: NamedTenant, platform: Stack, who: Who, if_none_match: IfNoneMatch = None) -> Response:
    """Return one tenant with what it has: the caller's own, or any to the operator."""
    return _answer(platform, platform.ledger.tenants.get(_visible(who, tenant_name)), if_none_match)


@tenants_router.put("/{tenant_name}/quotas", response_model=TenantView, responses=CHANGED)
def set_quotas(
    tenant_name: NamedTenant, body: Quotas, platform: Stack, who: Operator, if_match: IfMatch = None
) -> Response:
    """Bound a tenant; a quota that is not named is none."""
    change = partial(platform.ledger.tenants.set_quotas, tenant_name, body)
    return _change(platform, tenant_name, if_match, change, quotas=body.model_dump(mode="json"))


@tenants_router.put("/{tenant_name}/state", response_model=TenantView, responses=CHANGED)
def set_state(
    tenant_name: NamedTenant, body: StateBody, platform: Stack, who: Operator, if_match: IfMatch = None
) -> Response:
    """Let the gateway take a tenant's requests, or no new connections of it, or none."""
    change = partial(platform.ledger.tenants.set_state, tenant_name, body.state)
    return _change(platform, tenant_name, if_match, change, state=body.state.value)


@tenants_router.delete("/{tenant_name}")
def remove_tenant(tenant_name: NamedTenant, platform: Stack, who: Operator) -> Tenant:
    """Remove a tenant that has no models, with its keys."""
    gone = platform.ledger.tenants.get(tenant_name)
    platform.ledger.tenants.remove(tenant_name)
    add_evidence(tenant=tenant_name)
    platform.key_ring.tell()
    return gone


@keys_router.post("", status_code=201, response_model=NewKeyView)
def add_key(body: KeyBody, platform: Stack, who: Who) -> Response:
    """Make a key; its text is in this answer and nowhere else."""
    made = platform.key_ring.make(who.tenant, frozenset(body.scopes), body.label)
    return _shown_once(made)


@keys_router.get("")
def keys(platform: Stack, who: Who) -> KeyList:
    """List the tenant's keys, without their texts."""
    return KeyList(keys=tuple(_key_view(key) for key in platform.ledger.keys.all(who.tenant)))


@keys_router.post("/{key_id}/rotate", status_code=201, response_model=NewKeyView)
def rotate_key(key_id: KeyId, body: RotateBody, platform: Stack, who: Who) -> Response:
    """Make a key like this one, which ends when the overlap is over."""
    made = platform.key_ring.rotate(who.tenant, key_id, timedelta(seconds=body.overlap_s))
    add_evidence(replaces=key_id, overlap_s=body.overlap_s)
    return _shown_once(made)


@keys_router.delete("/{key_id}")
def revoke_key(key_id: KeyId, platform: Stack, who: Who) -> KeyView:
    """Let a key open nothing any more, from now on."""
    return _key_view(platform.key_ring.revoke(who.tenant, key_id))


def _visible(who: Caller, name: str) -> str:
    if who.operator or (name == who.tenant and Scope.ADMIN in who.scopes):
        return name
    raise ModelNotFound(f"there is no tenant {name!r}; `burnish tenant list` shows those there are")


def _change(
    platform: Platform,
    name: str,
    if_match: str | None,
    change: Callable[[Tenant | None], Tenant],
    **evidence: JsonValue,
) -> Response:
    """Make a change, of the tenant as the caller has seen it; the gateways are told at once."""
    seen = api_etags.unchanged(if_match, lambda: platform.ledger.tenants.get(name))
    with api_etags.precondition(if_match):
        changed = change(seen)
    add_evidence(tenant=name, **evidence)
    platform.key_ring.tell()
    return _answer(platform, changed)


def _answer(platform: Platform, found: Tenant, if_none_match: str | None = None) -> Response:
    held = platform.ledger.tenants.holdings(found.name)
    view = TenantView(tenant=found, models=held.models, versions=held.versions, stored_bytes=held.stored_bytes)
    return api_etags.answer(view, api_etags.record_tag(found, view), if_none_match)


def _key_view(key: ApiKey) -> KeyView:
    return KeyView(**key.model_dump(exclude={"sha256"}), holds=key.holds_at(datetime.now(UTC)))


def _shown_once(made: MadeKey) -> Response:
    add_evidence(key=made.key.id, scopes=[scope.value for scope in made.key.scopes], label=made.key.label)
    shown = _key_view(made.key)
    new = NewKeyView(**shown.model_dump(), text=SecretStr.get_secret_value(made.text))
    return api_names.answer(new, status=201, headers=_NO_STORE)
