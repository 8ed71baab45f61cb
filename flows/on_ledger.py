"""Work of the command line on this machine's ledger itself, while the control API is down: known, and audited."""

import getpass
import socket
from contextlib import AbstractContextManager
from pathlib import Path

from pydantic import JsonValue

from flows import releases
from flows.api_auth import find_key
from flows.audited import audited
from flows.tenants import KeyRing
from registry.errors import InputError
from registry.ledger.ledger import Ledger
from registry.records.change import Change, Step
from registry.records.release import Route
from registry.records.tenant import DEFAULT_TENANT, Scope, qualified


def tenant_of(ledger: Ledger, api_key: str | None) -> str:
    """Return the tenant that a command works for: its key's, or ``default`` without one.

    Raises:
        InputError: the key does not hold.
    """
    if api_key is None:
        return DEFAULT_TENANT
    key = find_key(ledger, api_key)
    if key is None:
        raise InputError("BURNISH_API_KEY is no key that holds")
    return key.tenant


def change_route(
    ledger: Ledger,
    catalog_folder: Path,
    step: Step,
    *,
    api_key: str | None,
    model: str,
    reason: str,
    expected_generation: int | None,
) -> Route:
    """Change the route of a model of the caller's tenant, as the control API would.

    Raises:
        BurnishError: what the ledger refuses.
    """
    tenant = tenant_of(ledger, api_key)
    with _by_person(ledger, tenant, step.action.value, model) as evidence:
        change = Change(
            model=qualified(tenant, model),
            step=step,
            actor=_actor(),
            reason=reason,
            expected_generation=expected_generation,
        )
        route = releases.change_route(ledger, catalog_folder, change)
        evidence.update(generation=route.generation, champion=route.champion)
    return route.model_copy(update={"model": model})


def make_key(
    ledger: Ledger, key_ring: KeyRing, tenant: str | None, scopes: tuple[str, ...], label: str
) -> dict[str, JsonValue]:
    """Make a key, as the control API would; its text is in what is returned."""
    named = tenant or DEFAULT_TENANT
    # A name of which the audit tells is never given: what fails for a tenant that never was is told of the operator.
    known = any(one.name == named for one in ledger.tenants.all())
    with _by_person(ledger, named if known else DEFAULT_TENANT, "add_key", named) as evidence:
        made = key_ring.make(named, frozenset(Scope(scope) for scope in scopes), label)
        evidence.update(key=made.key.id, scopes=[scope.value for scope in made.key.scopes], label=label)
    shown = made.key.model_dump(mode="json", include={"id", "tenant", "scopes", "label"})
    return {**shown, "text": made.text.get_secret_value()}


def _by_person(ledger: Ledger, tenant: str, action: str, target: str) -> AbstractContextManager[dict[str, JsonValue]]:
    return audited(ledger, tenant=tenant, actor=_actor(), source=socket.gethostname(), action=action, target=target)


def _actor() -> str:
    return f"{getpass.getuser()} (CLI)"
