"""``burnish monitor`` and ``burnish retrain``: start the flow now, besides its schedule."""

from dataclasses import asdict

import click

from burnish.cli.output import json_option, write_json
from burnish.client import Client
from burnish.replies import FlowRun


@click.command()
@click.argument("name")
@json_option
def monitor(name: str, as_json: bool) -> None:
    """Make a drift report of the requests that the model NAME has answered."""
    with Client() as client:
        _write(client.monitor(name), as_json=as_json)


@click.command()
@click.argument("name")
@click.option("--trainer", help="module:function, one of the stack's trainers.")
@json_option
def retrain(name: str, trainer: str | None, as_json: bool) -> None:
    """Train the model NAME again on the captured window, and push what comes of it."""
    with Client() as client:
        _write(client.retrain(name, trainer), as_json=as_json)


def _write(run: FlowRun, *, as_json: bool) -> None:
    if as_json:
        write_json(asdict(run))
    else:
        click.echo(f"started as {run.name}: {run.url}")
