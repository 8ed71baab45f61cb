"""``burnish audit``, ``usage``, ``metrics`` and ``logs``: what was done, what was used, and how it goes."""

import re
from typing import Any

import click

from burnish.administration import Administration
from burnish.cli.output import json_option, write_json, write_table

BROKEN = 1
_NS_PER_S = 1e9
_LABEL = re.compile(r'([a-z_]+)="([^"]*)"')
_tenant_option = click.option("--tenant", help="Whose; the operator's choice. Others: their own.")


@click.group()
def audit() -> None:
    """List the audit, or check that nobody has changed it."""


@audit.command(name="list")
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1, 500))
@_tenant_option
@json_option
def list_(limit: int, tenant: str | None, as_json: bool) -> None:
    """List the newest entries, newest first."""
    with Administration() as stack:
        found = stack.audit(limit, tenant)
    if as_json:
        write_json(found)
        return
    columns = ("sequence", "at", "tenant", "actor", "source", "action", "target", "outcome")
    write_table(columns, [tuple(str(one[column] or "-") for column in columns) for one in found])


@audit.command()
@click.option("--checkpoint", metavar="N:HASH", help="A head that an earlier check printed.")
@json_option
def verify(checkpoint: str | None, as_json: bool) -> int:
    """Walk the chain; exit with 1 and name the first entry that does not hold, if there is one."""
    with Administration() as stack:
        found = stack.verify_audit(checkpoint)
    if as_json:
        write_json(found)
    elif found["broken"]:
        click.echo(f"broken: {found['broken']}; {found['entries']} entries before it hold")
    else:
        click.echo(f"{found['entries']} entries hold; write this head down for the next check:")
        click.echo(f"{found['head']['sequence']}:{found['head']['hash']}")
    return BROKEN if found["broken"] else 0


@click.command()
@_tenant_option
@click.option("--model", help="Of one model only.")
@click.option("--since", metavar="TIME", help="ISO 8601 with its zone; 30 days ago.")
@click.option("--until", metavar="TIME", help="ISO 8601 with its zone; now.")
@json_option
def usage(tenant: str | None, model: str | None, since: str | None, until: str | None, as_json: bool) -> None:
    """Say what models did for their tenants, by the hour: requests, compute seconds, bytes."""
    with Administration() as stack:
        found = stack.usage(tenant=tenant, model=model, since=since, until=until)
    if as_json:
        write_json(found)
        return
    columns = ("hour", "tenant", "model", "requests", "failed", "compute s", "received bytes", "sent bytes")
    write_table(columns, [_usage_row(one) for one in found["usage"]])


@click.command()
@_tenant_option
@json_option
def metrics(tenant: str | None, as_json: bool) -> None:
    """Say how a tenant's models are: the metrics of every worker, in Prometheus' text format."""
    with Administration() as stack:
        found = stack.metrics(tenant)
    if as_json:
        write_json([_sample(line) for line in found.splitlines() if not line.startswith("#")])
        return
    click.echo(found, nl=False)


@click.command()
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1, 500))
@_tenant_option
@json_option
def logs(limit: int, tenant: str | None, as_json: bool) -> None:
    """List the newest requests at the gateway, newest first."""
    with Administration() as stack:
        found = stack.logs(limit, tenant)
    if as_json:
        write_json(found)
        return
    columns = ("time", "model", "method", "path", "status", "duration_ms", "request_id")
    write_table(columns, [tuple(_shown(one.get(column)) for column in columns) for one in found])


def _shown(value: object) -> str:
    return "-" if value is None else str(value)


def _sample(line: str) -> dict[str, Any]:
    name, _, labels = line.rpartition(" ")[0].partition("{")
    value = float(line.rpartition(" ")[2])
    return {"name": name, "labels": dict(_LABEL.findall(labels)), "value": value}


def _usage_row(one: dict[str, Any]) -> tuple[str, ...]:
    return (
        one["hour"],
        one["tenant"],
        one["model"],
        str(one["requests"]),
        str(one["failed"]),
        f"{one['compute_ns'] / _NS_PER_S:.3f}",
        str(one["received_bytes"]),
        str(one["sent_bytes"]),
    )
