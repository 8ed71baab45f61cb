"""``burnish predict``."""

import json
import zipfile
from pathlib import Path
from typing import Any

import click
import numpy as np

from burnish.cli.output import json_option, write_json
from burnish.client import Client
from burnish.errors import InputError

_LABEL = "label"


@click.command()
@click.argument("name")
@click.option("--input", "path", type=click.Path(path_type=Path), required=True, help="Arrays by input name.")
@click.option("--version", type=click.IntRange(min=1), help="This version instead of what is live.")
@json_option
def predict(name: str, path: Path, version: int | None, as_json: bool) -> None:
    """Ask the model NAME for the samples in a file.

    The file is .npz (an array `label` is left out) or JSON, an object of nested lists by input name.
    """
    inputs = read_inputs(path)
    with Client() as client:
        found = client.predict(name, inputs, version)
    if as_json:
        outputs = {output: array.tolist() for output, array in found.outputs.items()}
        answered_by = {"model": found.model, "version": found.version, "artifact": found.artifact}
        write_json({"outputs": outputs, **answered_by, "request_id": found.request_id})
        return
    for output, array in found.outputs.items():
        click.echo(f"{output} {array.dtype}{list(array.shape)}")
        click.echo(np.array2string(array, precision=6, threshold=200))
    click.echo(f"answered by {found.model} version {found.version}, artifact {found.artifact[:12]}")
    click.echo(f"request {found.request_id}")


def read_inputs(path: Path) -> dict[str, Any]:
    """Read arrays (.npz) or nested lists (JSON) by input name.

    Raises:
        InputError: the file cannot be read as one of the two.
    """
    try:
        inputs = _read_npz(path) if path.suffix == ".npz" else json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from error
    except (ValueError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(f"{path} is neither an .npz of plain arrays nor JSON: {error}") from error
    if not isinstance(inputs, dict) or not inputs:
        raise InputError(f"{path} must hold arrays by input name")
    return inputs


def _read_npz(path: Path) -> dict[str, Any]:
    with np.load(path, allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files if name != _LABEL}
