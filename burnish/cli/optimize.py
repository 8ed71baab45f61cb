"""``burnish optimize``: find the fastest right version of a model on files alone, without a stack."""

import time
from importlib import import_module
from pathlib import Path

import click
from pydantic import ValidationError

from burnish.cli.main import REFUSED
from burnish.cli.output import json_option
from burnish.config_file import read_config
from burnish.settings import history_file
from registry.errors import InputError
from registry.records.optimization import OptimizationConfig, OptimizationResult
from tasks.optimizer.output import BEST_FOLDER, RESULT_FILE, check_free
from tasks.optimizer.process_server import start_process_server
from tasks.optimizer.source_code import resolve_source_code

_FILE = click.Path(path_type=Path)
_REPORT_FILE = "report.html"


@click.command()
@click.argument("model", type=_FILE)
@click.option("--eval", "evaluation", type=_FILE, required=True, help="Evaluation set, .npz or .parquet.")
@click.option("--calibration", type=_FILE, help="Calibration set, .npz or .parquet; its labels are not used.")
@click.option("--config", type=_FILE, help="Configuration, YAML or TOML.")
@click.option("--budget", type=float, help="Minutes that the search may take.")
@click.option("--policy", help="min_latency, max_throughput, max_throughput_under_latency or min_size.")
@click.option("--threads", type=int, help="Threads that one call may use when the model serves.")
@click.option("--batch-sizes", help="Batch sizes that it will serve, such as 1,8.")
@click.option(
    "--source-code",
    metavar="FILE.py:FUNCTION",
    help="A function of yours that returns the model's nn.Module; it is run. Some passes need it.",
)
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
    threads: int | None,
    batch_sizes: str | None,
    source_code: str | None,
    out: Path,
    as_json: bool,
) -> None:
    """Find the fastest version of MODEL (.pt2 or .onnx) that is still right, and write it to a folder.

    The folder holds the best artifact so far at every moment, every candidate as JSON and the report page. Run it again
    with the same folder to go on after an interruption. Exit code 1: nothing passed the gate.
    """
    started = time.monotonic()
    sizes = batch_sizes.split(",") if batch_sizes else None
    overrides = {"budget_minutes": budget, "policy": policy, "threads": threads, "batch_sizes": sizes}
    asked = parse_config(read_config(config, **overrides))
    check_free(out)
    code = resolve_source_code(source_code) if source_code else None
    start_process_server()
    # The libraries of a search take seconds to import: beside those that the process server imports now.
    search = import_module("burnish.cli.local_search")
    sets = search.SetFiles(evaluation, calibration)
    result: OptimizationResult = search.run(
        model, sets, asked, out, source_code=code, history=history_file(), started=started, quiet=as_json
    )
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


def _write_end(result: OptimizationResult, out: Path) -> None:
    chosen = result.chosen
    if chosen is None:
        click.echo("nothing passed the gate:", err=True)
        for one in result.candidates:
            click.echo(f"  {one.candidate.label}: {one.status}: {one.reason}", err=True)
        return
    spent = ", ".join(f"{step} {seconds:.0f} s" for step, seconds in result.seconds_by_step.items())
    click.echo(f"ended after {result.seconds:.0f} s ({spent}): {result.ended}")
    click.echo(f"winner: {chosen.candidate.label}{_speed_up(result)}")
    click.echo(f"artifact: {out / BEST_FOLDER}, result: {out / RESULT_FILE}, report: {out / _REPORT_FILE}")


def _speed_up(result: OptimizationResult) -> str:
    chosen, baseline = result.chosen, result.baseline
    if chosen is None or baseline is None or chosen.benchmark is None or baseline.benchmark is None:
        return ""
    ours, theirs = (one.benchmark.latency[0].latency_p50_ms.estimate for one in (chosen, baseline) if one.benchmark)
    return f", {theirs / ours:.1f} times as fast as the source ({ours:.3g} ms, was {theirs:.3g} ms)"
