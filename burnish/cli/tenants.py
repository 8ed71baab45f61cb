"""``burnish tenant``: who shares this stack, and how much each may have."""

from typing import Any

import click

from burnish.administration import Administration
from burnish.cli.output import json_option, write_json, write_table

_NO_BOUND = "none"
_QUOTAS = ("models", "versions", "stored_bytes", "resident_bytes", "requests_per_s", "burst", "bytes_per_s")


Bound = tuple[str, float | None]


class _Quota(click.ParamType[Bound]):
    name = "QUOTA=N"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> Bound:
        quota, _, bound = str(value).partition("=")
        if quota not in _QUOTAS:
            self.fail(f"{quota!r} is no quota; there are {', '.join(_QUOTAS)}", param, ctx)
        if bound == _NO_BOUND:
            return quota, None
        try:
            return quota, float(bound) if quota == "requests_per_s" else int(bound)
        except ValueError:
            self.fail(f"{quota}={bound}: give a number, or `{_NO_BOUND}`", param, ctx)


@click.group()
def tenant() -> None:
    """Make, show, bound or remove tenants; for the operator."""


@tenant.command()
@click.argument("name")
@click.argument("quotas", nargs=-1, type=_Quota())
@json_option
def add(name: str, quotas: tuple[Bound, ...], as_json: bool) -> None:
    """Make the tenant NAME, bounded by QUOTAS such as models=10."""
    with Administration() as stack:
        made = stack.add_tenant(name, {quota: bound for quota, bound in quotas if bound is not None})
    if as_json:
        write_json(made)
        return
    click.echo(f"{name}: made; `burnish key add --tenant {name} --scope deploy` makes a key")


@tenant.command(name="list")
@json_option
def list_(as_json: bool) -> None:
    """List all tenants."""
    with Administration() as stack:
        found = stack.tenants()
    if as_json:
        write_json(found)
        return
    write_table(("tenant", "state", "quotas"), [(one["name"], one["state"], _said(one["quotas"])) for one in found])


@tenant.command()
@click.argument("name")
@json_option
def show(name: str, as_json: bool) -> None:
    """Show the tenant NAME: its quotas, and what it has of them."""
    with Administration() as stack:
        _show(stack.tenant(name), as_json=as_json)


@tenant.command()
@click.argument("name")
@click.argument("quotas", nargs=-1, required=True, type=_Quota())
@json_option
def quota(name: str, quotas: tuple[Bound, ...], as_json: bool) -> None:
    """Bound the tenant NAME by QUOTAS such as models=10, or models=none; what is not named stays."""
    with Administration() as stack:
        _show(stack.set_quotas(name, dict(quotas)), as_json=as_json)


@tenant.command()
@click.argument("name")
def remove(name: str) -> None:
    """Remove the tenant NAME, which has no models, with its keys."""
    with Administration() as stack:
        stack.remove_tenant(name)
    click.echo(f"{name}: removed")


def _show(found: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        write_json(found)
        return
    click.echo(f"{found['tenant']['name']}: {found['tenant']['state']}")
    for quota, bound in found["tenant"]["quotas"].items():
        used = f"{found[quota]} of " if quota in found else ""
        click.echo(f"  {quota:<16}{used}{'-' if bound is None else bound}")


def _said(quotas: dict[str, Any]) -> str:
    return " ".join(f"{quota}={bound}" for quota, bound in quotas.items() if bound is not None) or "-"
