"""``burnish key``: API keys. The first one, and any while the control API is down, is made on the ledger itself."""

import importlib
from typing import Any

import click

from burnish.administration import Administration
from burnish.cli.output import json_option, write_json, write_table
from burnish.errors import RemoteError, RemoteUnreachable

_SCOPES = ("predict", "deploy", "admin")
_UNAUTHORIZED = 401
_tenant_option = click.option("--tenant", help="Whose; the operator's choice. Others: their own.")


@click.group()
def key() -> None:
    """Make, list, rotate or revoke API keys."""


@key.command()
@click.option("--scope", "scopes", multiple=True, required=True, type=click.Choice(_SCOPES), help="May be repeated.")
@click.option("--label", default="", help="What it is for.")
@_tenant_option
@json_option
def add(scopes: tuple[str, ...], label: str, tenant: str | None, as_json: bool) -> None:
    """Make a key and show it, this once."""
    with Administration() as stack:
        try:
            made = stack.add_key(scopes, label, tenant)
        except RemoteError as error:
            made = _make_on_ledger(stack, error, scopes, label, tenant)
    _show_once(made, as_json=as_json)


@key.command(name="list")
@_tenant_option
@json_option
def list_(tenant: str | None, as_json: bool) -> None:
    """List keys, those that no longer hold among them."""
    with Administration() as stack:
        found = stack.keys(tenant)
    if as_json:
        write_json(found)
        return
    rows = [
        (one["id"], one["tenant"], " ".join(one["scopes"]), "yes" if one["holds"] else "no", one["label"])
        for one in found
    ]
    write_table(("key", "tenant", "scopes", "holds", "label"), rows)


@key.command()
@click.argument("key_id")
@click.option(
    "--overlap", "overlap_s", default=86400, show_default=True, type=click.IntRange(0, 7776000), help="Seconds."
)
@_tenant_option
@json_option
def rotate(key_id: str, overlap_s: int, tenant: str | None, as_json: bool) -> None:
    """Make a key like KEY_ID, which ends when the overlap is over, and show the new one, this once."""
    with Administration() as stack:
        _show_once(stack.rotate_key(key_id, overlap_s, tenant), as_json=as_json)


@key.command()
@click.argument("key_id")
@_tenant_option
def revoke(key_id: str, tenant: str | None) -> None:
    """Let KEY_ID open nothing any more, from now on."""
    with Administration() as stack:
        stack.revoke_key(key_id, tenant)
    click.echo(f"{key_id}: revoked")


def _make_on_ledger(
    stack: Administration, error: RemoteError, scopes: tuple[str, ...], label: str, tenant: str | None
) -> dict[str, Any]:
    """Make a key in this machine's ledger: who may write there is the operator.

    Raises:
        RemoteError: the control API refused for another reason, or is not that of this machine's stack.
    """
    settings = importlib.import_module("flows.settings").stack_settings()
    needed = isinstance(error, RemoteUnreachable) or (error.status == _UNAUTHORIZED and not stack.has_key)
    if not needed or stack.control_url != settings.control_url or not settings.home.is_dir():
        raise error
    wiring, on_ledger = (importlib.import_module(f"flows.{name}") for name in ("wiring", "on_ledger"))
    ledger = wiring.ledger(settings)
    click.echo(f"note: {error}; working on the ledger itself", err=True)
    try:
        found: dict[str, Any] = on_ledger.make_key(ledger, wiring.key_ring(settings, ledger), tenant, scopes, label)
        return found
    finally:
        ledger.close()


def _show_once(made: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        write_json(made)
        return
    click.echo(made["text"])
    click.echo(
        f"the key {made['id']} of {made['tenant']} ({' '.join(made['scopes'])}); it is not shown again", err=True
    )
