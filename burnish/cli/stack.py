"""``burnish up``, ``status`` and ``down``: the stack on this machine."""

from pathlib import Path

import click
from rich.console import Console

from burnish.cli.output import json_option, write_json, write_table
from burnish.stack import lifecycle
from burnish.stack.home import bring_up
from burnish.stack.plan import Part
from burnish.stack.status import PartStatus, StackStatus, read_status
from flows.settings import StackSettings, stack_settings

UNHEALTHY = 3

home_option = click.option(
    "--home",
    type=click.Path(file_okay=False, path_type=Path),
    help="The stack's folder; without it, BURNISH_HOME or ~/.burnish.",
)


@click.command()
@home_option
@json_option
def up(home: Path | None, *, as_json: bool) -> None:
    """Start the stack and wait until it is ready.

    What it starts with comes from the variables BURNISH_*, then from the stack.json that an earlier start has left in
    the folder, then from defaults.
    """
    settings = stack_settings(home)
    console = Console(highlight=False, stderr=as_json)
    console.print(f"starting the stack in {settings.home}", soft_wrap=True)

    def ready(part: Part, seconds: float) -> None:
        console.print(f"  {part.name:<8} ready after {seconds:5.1f} s  {part.url}", soft_wrap=True)

    with console.status("waiting for all parts"):
        bring_up(settings, ready)
    if as_json:
        write_json({"home": str(settings.home), "links": links(settings)})
        return
    for name, address in links(settings).items():
        console.print(f"{name:<12} {address}", soft_wrap=True)


@click.command()
@home_option
@json_option
def status(home: Path | None, *, as_json: bool) -> int:
    """Say how each part of the stack is; exit code 0 if all are healthy, 3 otherwise."""
    settings = stack_settings(home)
    found = read_status(settings.home, settings.control_url, settings.gateway_admin_port)
    if as_json:
        write_json(found.model_dump(mode="json"))
    else:
        _write_status(found)
    return 0 if found.healthy else UNHEALTHY


@click.command()
@home_option
@json_option
def down(home: Path | None, *, as_json: bool) -> None:
    """Stop the stack and make sure that no process of it is left."""
    folder = stack_settings(home).home
    ran = lifecycle.stop(folder)
    if as_json:
        write_json({"home": str(folder), "ran": ran})
        return
    click.echo(f"the stack in {folder} is stopped" if ran else f"no stack was running in {folder}")


def links(settings: StackSettings) -> dict[str, str]:
    """Return the addresses that a person opens, by name."""
    return {
        "inference": f"{settings.gateway_url}/v2",
        "control API": f"{settings.control_url}/docs",
        "Prefect": settings.prefect_url,
        "MLflow": settings.mlflow_url,
        "logs": str(settings.log_folder),
    }


def _write_status(found: StackStatus) -> None:
    rows = [(part.name, _state(part), str(part.pid or ""), str(part.restarts), part.url) for part in found.parts]
    write_table(("part", "state", "pid", "restarts", "address"), rows, title=f"stack in {found.home}")
    for note in found.notes:
        click.echo(f"note: {note}")


def _state(part: PartStatus) -> str:
    if not part.running:
        return "stopped"
    return "healthy" if part.healthy else "not ready"
