"""``burnish workers``: how each worker of the engine is, and its restart without losing a request."""

from pathlib import Path

import click

from burnish.cli.output import json_option, write_json, write_table
from burnish.cli.stack import home_option
from burnish.stack.parts import gateway_folder, worker_doors
from burnish.stack.workers import EngineWorkers
from flows.settings import stack_settings


@click.group(invoke_without_command=True)
@home_option
@json_option
@click.pass_context
def workers(ctx: click.Context, home: Path | None, *, as_json: bool) -> None:
    """Say how each worker of the engine is; with `restart`, replace one."""
    if ctx.invoked_subcommand is not None:
        return
    states = _workers(home).states()
    if as_json:
        write_json([state.model_dump(mode="json") for state in states])
        return
    rows = [
        (str(state.worker), "ready" if state.ready else "not ready", str(state.pid or ""), str(state.models))
        for state in states
    ]
    write_table(("worker", "state", "pid", "models"), rows)
    for state in states:
        for reason in state.refused:
            click.echo(f"worker {state.worker}: {reason}")


@workers.command()
@click.argument("index", type=click.IntRange(min=0))
@home_option
@json_option
def restart(index: int, home: Path | None, *, as_json: bool) -> None:
    """Replace worker INDEX: out of the gateway, what it has is finished, a new one in its place."""
    state = _workers(home).restart(index)
    if as_json:
        write_json(state.model_dump(mode="json"))
        return
    click.echo(f"worker {index} was replaced, its process is {state.pid}")


def _workers(home: Path | None) -> EngineWorkers:
    settings = stack_settings(home)
    return EngineWorkers(gateway_folder(settings), worker_doors(settings))
