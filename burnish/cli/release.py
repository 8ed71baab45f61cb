"""``burnish promote`` and ``burnish rollback``: through the control API or, when it is down, on the ledger itself."""

import importlib
from dataclasses import asdict
from typing import Any

import click

from burnish.cli.output import json_option, write_json
from burnish.client import Client
from burnish.errors import RemoteUnreachable
from burnish.route_replies import Release
from burnish.settings import find_endpoints

_generation_option = click.option(
    "--if-generation", "expected", type=click.IntRange(min=0), help="Refuse if the route has another generation by now."
)
_reason_option = click.option("--reason", default="asked for on the command line", help="Kept in the history.")


@click.command()
@click.argument("name")
@click.argument("version", type=click.IntRange(min=1))
@_generation_option
@_reason_option
@json_option
def promote(name: str, version: int, expected: int | None, reason: str, as_json: bool) -> None:
    """Make VERSION of the model NAME the champion."""
    with Client() as client:
        try:
            release = client.promote(name, version, expected_generation=expected, reason=reason)
        except RemoteUnreachable as error:
            step = importlib.import_module("registry.records.change").Promote(version=version)
            release = _on_ledger(client, error, step, model=name, reason=reason, expected_generation=expected)
    write_release(release, f"version {release.champion} is the champion", as_json=as_json)


@click.command()
@click.argument("name")
@_generation_option
@_reason_option
@json_option
def rollback(name: str, expected: int | None, reason: str, as_json: bool) -> None:
    """Return the model NAME to the champion before the current one."""
    with Client() as client:
        try:
            release = client.rollback(name, expected_generation=expected, reason=reason)
        except RemoteUnreachable as error:
            step = importlib.import_module("registry.records.change").RollBack()
            release = _on_ledger(client, error, step, model=name, reason=reason, expected_generation=expected)
    write_release(release, f"version {release.champion} is the champion", as_json=as_json)


def _on_ledger(client: Client, unreachable: RemoteUnreachable, step: Any, **asked: Any) -> Release:  # noqa: ANN401
    """Change the route in this machine's ledger and catalog, as the control API would have done.

    Raises:
        RemoteUnreachable: the control API that was asked is not that of this machine's stack.
    """
    settings = importlib.import_module("flows.settings").stack_settings()
    if client.control_url != settings.control_url or not settings.home.is_dir():
        raise unreachable
    ledger = importlib.import_module("flows.wiring").ledger(settings)
    click.echo(f"note: {unreachable}; working on the ledger itself, the mirrors follow when it is back", err=True)
    try:
        route = importlib.import_module("flows.on_ledger").change_route(
            ledger, settings.catalog_folder, step, api_key=find_endpoints().api_key, **asked
        )
    finally:
        ledger.close()
    workers = tuple(range(settings.workers))
    return Release(route.model, route.champion, route.generation, acknowledged=(), pending=workers)


def write_release(release: Release, what: str, *, as_json: bool) -> None:
    """Write what changed of a route, and which workers have not confirmed it."""
    if as_json:
        write_json(asdict(release))
        return
    click.echo(f"{release.model}: {what}, generation {release.generation}")
    if release.pending:
        waiting = ", ".join(map(str, release.pending))
        click.echo(f"not confirmed yet by the engine's workers {waiting}; they take it from the catalog", err=True)
