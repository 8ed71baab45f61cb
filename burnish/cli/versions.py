"""``burnish models`` and ``burnish versions``."""

from dataclasses import asdict

import click

from burnish.cli.output import json_option, write_json, write_table
from burnish.client import Client
from burnish.replies import Version


@click.command()
@click.option("--prefix", help="What the names begin with.")
@click.option("--contains", help="What the names hold anywhere.")
@json_option
def models(prefix: str | None, contains: str | None, as_json: bool) -> None:
    """List the models and what serves of each."""
    with Client() as client:
        found = client.models(prefix=prefix, contains=contains)
    if as_json:
        write_json({"models": [asdict(model) for model in found]})
        return
    write_table(
        ("model", "live version", "generation", "versions"),
        [
            (model.name, _or_dash(model.champion), _or_dash(model.generation), ", ".join(map(str, model.versions)))
            for model in found
        ],
    )


@click.command()
@click.argument("name")
@json_option
def versions(name: str, as_json: bool) -> None:
    """List the versions of the model NAME, oldest first."""
    with Client() as client:
        found = client.versions(name)
    if as_json:
        write_json(asdict(found))
        return
    write_table(
        ("version", "live", "made by", "runtime", "size KiB", "metrics", "artifact"),
        [_row(version) for version in found.versions],
        title=f"{name}, generation {_or_dash(found.generation)}",
    )
    _write_note(found.registry_unavailable)


def _row(version: Version) -> tuple[str, ...]:
    metrics = version.metrics or {}
    return (
        str(version.number),
        f"{version.share:g} %" if version.share else "",
        " > ".join(version.recipe) or "source" if version.recipe is not None else "?",
        version.runtime,
        f"{version.size_bytes / 1024:.0f}",
        ", ".join(f"{name} {interval.estimate:.4g}" for name, interval in metrics.items()),
        version.artifact[:12],
    )


def _or_dash(value: int | None) -> str:
    return "-" if value is None else str(value)


def _write_note(note: str | None) -> None:
    if note:
        click.echo(f"note: {note}", err=True)
