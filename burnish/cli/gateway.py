"""``burnish gateway``: shut a tenant out at once, let it in again, and make a certificate."""

from pathlib import Path

import click

from burnish.cli.output import json_option, write_json
from burnish.cli.stack import home_option
from burnish.stack.parts import gateway_folder
from flows.settings import stack_settings
from registry.records.tenant import TenantState
from serving.gateway.certificate import make_certificate
from serving.gateway.tenants import switch_tenant

_LOCAL = ("localhost", "127.0.0.1", "::1")


@click.group()
def gateway() -> None:
    """Shut a tenant out of the gateway at once, let it in again, or make a certificate; needs no other part."""


@gateway.command()
@click.argument("tenant")
@home_option
@json_option
def drain(tenant: str, home: Path | None, *, as_json: bool) -> None:
    """Answer new requests of TENANT with 503 and let those end that it has."""
    _switch(tenant, TenantState.DRAINING, home, as_json=as_json)


@gateway.command()
@click.argument("tenant")
@home_option
@json_option
def block(tenant: str, home: Path | None, *, as_json: bool) -> None:
    """Answer new requests of TENANT with 403."""
    _switch(tenant, TenantState.BLOCKED, home, as_json=as_json)


@gateway.command(name="open")
@click.argument("tenant")
@home_option
@json_option
def open_(tenant: str, home: Path | None, *, as_json: bool) -> None:
    """Undo `drain` or `block`; what the ledger says of TENANT holds again."""
    _switch(tenant, TenantState.OPEN, home, as_json=as_json)


@gateway.command()
@click.option("--name", "names", multiple=True, help="A host name or IP address that clients use; may be repeated.")
@click.option("--days", default=365, show_default=True, type=click.IntRange(1, 3650), help="How long it holds.")
@home_option
@json_option
def cert(names: tuple[str, ...], days: int, home: Path | None, *, as_json: bool) -> None:
    """Make a self-signed certificate for the gateway; one that it uses already is replaced while it runs."""
    settings = stack_settings(home)
    made = make_certificate(settings.home / "tls", (*_LOCAL, *names), days)
    if as_json:
        write_json(made.model_dump(mode="json"))
        return
    click.echo(
        f"made {made.certificate} and {made.key}\n"
        f"for the gateway:  BURNISH_TLS_CERTIFICATE={made.certificate} BURNISH_TLS_KEY={made.key}\n"
        f"for its clients:  SSL_CERT_FILE={made.certificate}"
    )


def _switch(tenant: str, state: TenantState, home: Path | None, *, as_json: bool) -> None:
    switch_tenant(gateway_folder(stack_settings(home)), tenant, state)
    if as_json:
        write_json({"tenant": tenant, "state": state.value})
        return
    click.echo(f"tenant {tenant} is {state.value} at the gateway")
