"""``burnish push`` and ``burnish optimizations``: send a model, follow what becomes of it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from burnish.cli.main import INPUT_ERROR, REFUSED, REMOTE_FAILED
from burnish.cli.output import json_option, write_json, write_table
from burnish.cli.sending import sending
from burnish.client import Client
from burnish.config_file import read_config
from burnish.replies import Candidate, Interval, Optimization, Rule

_EXIT_CODES = {"refused": REFUSED, "invalid": INPUT_ERROR, "failed": REMOTE_FAILED}
_FILE = click.Path(path_type=Path)


@click.command()
@click.argument("file", type=_FILE)
@click.argument("name")
@click.option("--eval", "evaluation", type=_FILE, required=True, help="Evaluation set, .npz or .parquet.")
@click.option("--calibration", type=_FILE, help="Calibration set, .npz or .parquet; never labels.")
@click.option("--config", type=_FILE, help="Configuration, YAML or TOML.")
@click.option("--budget", type=float, help="Minutes that the search may take.")
@click.option("--policy", help="min_latency, max_throughput, max_throughput_under_latency or min_size.")
@click.option("--no-wait", is_flag=True, help="Return when the optimization is queued.")
@json_option
@click.pass_context
def push(  # noqa: PLR0913 - one parameter an option
    ctx: click.Context,
    file: Path,
    name: str,
    evaluation: Path,
    calibration: Path | None,
    config: Path | None,
    budget: float | None,
    policy: str | None,
    no_wait: bool,
    as_json: bool,
) -> None:
    """Send the model FILE (.pt2, .onnx or .zip) under a NAME; have it optimized, gated, registered and released."""
    fields = read_config(config, budget_minutes=budget, policy=policy)
    with Client() as client:
        with sending(quiet=as_json) as on_sent:
            optimization = client.push_files(file, name, evaluation, calibration, fields, on_sent=on_sent)
        if no_wait:
            _write_queued(optimization, as_json=as_json)
            return
        with _progress(quiet=as_json) as on_update:
            optimization = client.wait(optimization.id, on_update)
        candidates = client.candidates(optimization.id) if optimization.report_url else ()
    if as_json:
        write_json({**asdict(optimization), "candidates": [asdict(candidate) for candidate in candidates]})
    else:
        write_candidates(candidates)
        _write_end(optimization)
    ctx.exit(_EXIT_CODES.get(optimization.state, 0))


@click.command()
@click.argument("identifier", required=False)
@click.option("--model", help="Only those of one model.")
@click.option("--watch", is_flag=True, help="Follow the one with this IDENTIFIER until it ends.")
@click.option("--cancel", is_flag=True, help="Stop the one with this IDENTIFIER; its best until then is kept.")
@json_option
def optimizations(identifier: str | None, model: str | None, watch: bool, cancel: bool, as_json: bool) -> None:
    """List optimizations, newest first; or show the one with an IDENTIFIER."""
    if identifier is None and (watch or cancel):
        raise click.UsageError("name the optimization to watch or to cancel")
    with Client() as client:
        if identifier is not None and cancel:
            client.cancel(identifier)
        if identifier is not None and watch:
            with _progress(quiet=as_json) as on_update:
                client.wait(identifier, on_update)
        if identifier is None:
            found = client.optimizations(model)
            candidates: tuple[Candidate, ...] = ()
        else:
            found = (client.optimization(identifier),)
            candidates = client.candidates(identifier) if found[0].report_url else ()
    if as_json:
        shown = [{**asdict(one), "candidates": [asdict(candidate) for candidate in candidates]} for one in found]
        write_json(shown if identifier is None else shown[0])
        return
    if identifier is not None:
        write_candidates(candidates)
        _write_end(found[0])
        return
    write_table(
        ("id", "model", "state", "stage", "version", "message"),
        [(one.id, one.model, one.state, one.stage, str(one.version or ""), one.message) for one in found],
    )


def write_candidates(candidates: tuple[Candidate, ...]) -> None:
    """Write the table of candidates; without candidates nothing."""
    if not candidates:
        return
    write_table(
        ("", "candidate", "p50 ms", "score", "size KiB", "status", "reason"),
        [
            (
                "*" if candidate.chosen else "",
                candidate.label + (" (baseline)" if candidate.baseline else ""),
                _interval(candidate.latency_p50_ms),
                _interval(candidate.score),
                f"{candidate.size_bytes / 1024:.0f}" if candidate.size_bytes is not None else "",
                candidate.status,
                candidate.reason,
            )
            for candidate in candidates
        ],
    )


def _write_queued(optimization: Optimization, *, as_json: bool) -> None:
    if as_json:
        write_json(asdict(optimization))
    else:
        click.echo(f"queued as {optimization.id}; follow it with: burnish optimizations {optimization.id}")


def _write_end(optimization: Optimization) -> None:
    click.echo(f"{optimization.model}: {optimization.state}" + _as_version(optimization.version))
    if optimization.message:
        click.echo(f"  {optimization.message}")
    for rule in optimization.rules:
        click.echo(_rule_line(rule))
    for title, link in (("report", optimization.report_url), ("flow run", optimization.flow_run_url)):
        if link:
            click.echo(f"  {title}: {link}")


def _as_version(version: int | None) -> str:
    return f", version {version}" if version else ""


def _rule_line(rule: Rule) -> str:
    figures = ", ".join(f"{name} {value:.6g}" for name, value in rule.figures.items())
    return f"  gate {rule.verdict}: {rule.rule}: {rule.reason}" + (f" ({figures})" if figures else "")


def _interval(interval: Interval | None) -> str:
    return f"{interval.estimate:.4g} [{interval.low:.4g}, {interval.high:.4g}]" if interval else ""


@contextmanager
def _progress(*, quiet: bool) -> Iterator[Callable[[Optimization], None]]:
    """Show the stage and the candidates on standard error: a bar on a terminal, otherwise a line a change."""
    console = Console(stderr=True, quiet=quiet)
    if not console.is_terminal:
        yield lambda found: console.print(_progress_line(found), highlight=False, markup=False, soft_wrap=True)
        return
    columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeElapsedColumn(), console=console, transient=True) as bar:
        task = bar.add_task("queued", total=None)

        def update(found: Optimization) -> None:
            total = found.candidates_total or None
            description = found.stage or found.state
            bar.update(task, description=description, completed=found.candidates_done, total=total)

        yield update


def _progress_line(found: Optimization) -> str:
    counted = f" {found.candidates_done}/{found.candidates_total}" if found.candidates_total else ""
    return " ".join(filter(None, (found.state, found.stage + counted, found.message)))
