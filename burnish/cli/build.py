"""``burnish build``: the Bento of a version, by hand."""

import click

from burnish.cli.output import json_option, write_json
from flows import wiring
from flows.settings import StackSettings, stack_settings
from registry.errors import ModelNotFound
from serving.package import build_bento


@click.command()
@click.argument("name")
@click.option("--version", "number", type=click.IntRange(min=1), help="Without it, the version that is live.")
@json_option
def build(name: str, number: int | None, *, as_json: bool) -> None:
    """Build the Bento of a version of the model NAME; it serves alone with `bentoml serve`."""
    settings = stack_settings()
    version = wiring.model_store(settings).version(name, number or _live(settings, name))
    artifact = wiring.artifacts(settings).checkout(version.draft.artifact.sha256)
    tag = build_bento(version, artifact, settings.bento_folder)
    if as_json:
        write_json({"tag": tag, "bentoml_home": str(settings.bento_folder)})
    else:
        click.echo(f"{tag}\nserve it: BENTOML_HOME={settings.bento_folder} bentoml serve {tag}")


def _live(settings: StackSettings, name: str) -> int:
    ledger = wiring.ledger(settings)
    try:
        route = ledger.route(name)
    finally:
        ledger.close()
    if route is None:
        raise ModelNotFound(f"no version of {name} is live; name one with --version")
    return route.champion
