"""``burnish optimize``: find the fastest right version of a model on files alone, without a stack."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click
from pydantic import ValidationError
from rich.console import Console

from burnish.cli.board import Board, show_lines
from burnish.cli.main import REFUSED
from burnish.cli.output import json_option
from burnish.config_file import read_config
from monitoring.quality import check_datasets, require_quality
from registry.digest import file_digest
from registry.errors import InputError
from registry.records.optimization import OptimizationConfig, OptimizationResult
from tasks.optimizer.base import Artifact
from tasks.optimizer.dataset import Dataset, load_dataset
from tasks.optimizer.output import BEST_FOLDER, RESULT_FILE, check_free
from tasks.optimizer.progress import OnEvent
from tasks.optimizer.report import REPORT_FILE
from tasks.optimizer.search import SearchRequest
from tasks.optimizer.search import optimize as search
from tasks.optimizer.source import take_in

_FILE = click.Path(path_type=Path)


@click.command()
@click.argument("model", type=_FILE)
@click.option("--eval", "evaluation", type=_FILE, required=True, help="Evaluation set, .npz or .parquet.")
@click.option("--calibration", type=_FILE, help="Calibration set, .npz or .parquet; its labels are not used.")
@click.option("--config", type=_FILE, help="Configuration, YAML or TOML.")
@click.option("--budget", type=float, help="Minutes that the search may take.")
@click.option("--policy", help="min_latency, max_throughput, max_throughput_under_latency or min_size.")
@click.option("--out", type=_FILE, required=True, help="Folder to write: new, empty, or of an earlier search.")
@json_option
@click.pass_context
def optimize(  # noqa: PLR0913 - one parameter an option
    ctx: click.Context,
    model: Path,
    evaluation: Path,
    calibration: Path | None,
    config: Path | None,
    budget: float | None,
    policy: str | None,
    out: Path,
    as_json: bool,
) -> None:
    """Find the fastest version of MODEL (.pt2 or .onnx) that is still right, and write it to a folder.

    The folder holds the best artifact, every candidate as JSON and the report page. Run it again with the same folder
    to go on after an interruption. Exit code 1: nothing passed the gate.
    """
    asked = parse_config(read_config(config, budget_minutes=budget, policy=policy))
    check_free(out)
    with tempfile.TemporaryDirectory() as temporary, _watched(quiet=as_json) as on_event:
        source = take_in(model, Path(temporary))
        evaluated, calibrated = _load_sets(source, evaluation, calibration)
        request = SearchRequest(
            source=source,
            evaluation=evaluated,
            evaluation_digest=file_digest(evaluation),
            calibration=calibrated,
            calibration_digest=file_digest(calibration) if calibration else None,
            config=asked,
            out=out,
            cache=out / "cache",
        )
        result = search(request, on_event)
    if as_json:
        click.echo(result.model_dump_json(indent=2))
    else:
        _write_end(result, out)
    ctx.exit(0 if result.winner else REFUSED)


def parse_config(fields: dict[str, object]) -> OptimizationConfig:
    """Make a configuration of a file's fields.

    Raises:
        InputError: a field is unknown or has a wrong value; the message names it.
    """
    try:
        return OptimizationConfig.model_validate(fields)
    except ValidationError as error:
        known = ", ".join(OptimizationConfig.model_fields)
        wrong = "; ".join(
            f"{'.'.join(str(part) for part in one['loc'])}: {one['msg']}, got {one['input']!r}"
            for one in error.errors()
        )
        raise InputError(f"the configuration is wrong: {wrong}; its fields are {known}") from error


def _load_sets(source: Artifact, evaluation: Path, calibration: Path | None) -> tuple[Dataset, Dataset | None]:
    """Load the sets and check their quality.

    Raises:
        InputError: a set does not fit the model, or a check failed.
    """
    evaluated = load_dataset(evaluation, source.signature)
    calibrated = load_dataset(calibration, source.signature) if calibration else None
    checked = check_datasets(
        source.signature, evaluated.inputs, calibrated.inputs if calibrated else None, evaluated.labels
    )
    require_quality(checked)
    return evaluated, calibrated


@contextmanager
def _watched(*, quiet: bool) -> Iterator[OnEvent]:
    console = Console()
    if quiet:
        yield lambda result: None
    elif console.is_terminal:
        with Board(console) as board:
            yield board.show
    else:
        yield show_lines


def _write_end(result: OptimizationResult, out: Path) -> None:
    chosen = result.chosen
    if chosen is None:
        click.echo("nothing passed the gate:", err=True)
        for one in result.candidates:
            click.echo(f"  {one.candidate.label}: {one.status}: {one.reason}", err=True)
        return
    click.echo(f"winner: {chosen.candidate.label}")
    click.echo(f"artifact: {out / BEST_FOLDER}, result: {out / RESULT_FILE}, report: {out / REPORT_FILE}")
