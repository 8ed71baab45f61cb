"""The report page of an optimization: one HTML file with its plots inside, which needs no network."""

from pathlib import Path

import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from registry.records.optimization import OptimizationResult
from tasks.bench.intervals import CALLS_FOR_P99, CONFIDENCE
from tasks.gates.metrics import describe_metric
from tasks.optimizer import wording
from tasks.optimizer.pareto import LATENCY, SIZE, THROUGHPUT, Axis, latency_at_largest_batch, latency_at_smallest_batch
from tasks.optimizer.report_plots import front_plot, latency_plot, standalone
from tasks.optimizer.report_rows import Row, rows

REPORT_FILE = "report.html"
LATENCY_PLOT, FRONT_PLOT = "latency.svg", "front.svg"

_TEMPLATES = Path(__file__).parent / "templates"


def write_report(result: OptimizationResult, folder: Path) -> Path:
    """Write ``report.html`` into a folder and return its path.

    The page is self-contained, follows light and dark, fits a phone, and escapes every name that it shows.
    """
    described = rows(result)
    measured = [row for row in described if row.result.benchmark and row.result.score]
    page = (
        _environment()
        .get_template("report.html.j2")
        .render(
            result=result,
            rows=described,
            winner=next((row for row in described if row.winner), None),
            tiles=_tiles(result),
            plots=[latency_plot(measured), front_plot(measured)] if measured else [],
            policy=_policy(result),
            metric=describe_metric(result.metric),
            method=_method(result, measured),
            configuration=yaml.safe_dump(result.config.model_dump(mode="json", exclude_none=True), sort_keys=False),
            data_size=wording.data_size,
        )
    )
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / REPORT_FILE
    path.write_text(page, encoding="utf-8")
    return path


def write_plots(result: OptimizationResult, folder: Path) -> None:
    """Write the report's plots as SVG files, ``latency.svg`` and ``front.svg``; nothing if nothing was measured."""
    measured = [row for row in rows(result) if row.result.benchmark and row.result.score]
    if measured:
        for name, plot in ((LATENCY_PLOT, latency_plot(measured)), (FRONT_PLOT, front_plot(measured))):
            (folder / name).write_text(standalone(plot), encoding="utf-8")


def _environment() -> Environment:
    return Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _tiles(result: OptimizationResult) -> list[tuple[str, str, str]]:
    """The winner's figures beside the baseline's: (name, value, comparison)."""
    winner, baseline = result.chosen, result.baseline
    if winner is None or winner.benchmark is None or winner.score is None:
        return []
    first, last = latency_at_smallest_batch(winner), latency_at_largest_batch(winner)
    other = baseline if baseline and baseline.benchmark and baseline is not winner else None

    def beside(axis: Axis, word: str) -> str:
        if other is None:
            return "the baseline itself"
        ours, theirs = axis.measure(winner).estimate, axis.measure(other).estimate
        times = ours / theirs if axis.larger_is_better else theirs / ours
        return f"{times:.1f} x {word}, baseline {axis.text(other)}"

    score = f"baseline {wording.percent(other.score.estimate)}" if other and other.score else "the baseline itself"
    return [
        (f"p50 latency, batch {first.batch_size}", LATENCY.text(winner), beside(LATENCY, "faster")),
        (f"throughput, batch {last.batch_size}", THROUGHPUT.text(winner), beside(THROUGHPUT, "more")),
        (f"score on {result.samples} samples", wording.percent(winner.score.estimate), score),
        ("size", SIZE.text(winner), beside(SIZE, "smaller")),
    ]


def _policy(result: OptimizationResult) -> str:
    limit = result.config.latency_limit_ms
    return f"{result.config.policy}, limit {limit:g} ms" if limit else str(result.config.policy)


def _method(result: OptimizationResult, measured: list[Row]) -> list[str]:
    """How the figures came about, a sentence each."""
    config = result.config
    said = [
        "The finalists and the baseline took turns in random order, in one process; other figures are from a quick "
        "look beside the leader. The time of a call is the whole of the session's run.",
        f"Threads a run: {config.threads}. Batch sizes: {', '.join(map(str, config.batch_sizes))}. Latency is that of "
        f"the smallest, throughput that of the largest. Seed: {config.seed}.",
        f"Intervals hold with {CONFIDENCE:.0%} confidence: block bootstrap over rounds for latency and throughput, "
        f"Wilson's for the score.",
        f"A candidate passes if it loses less than {100 * config.margin:g} points of the samples net, by an exact "
        f"paired test at alpha {config.alpha:g}, or if its outputs equal the source's within float tolerance.",
    ]
    calls = [latency_at_smallest_batch(row.result).calls for row in measured]
    if calls and min(calls) < CALLS_FOR_P99:
        said.append(
            f"p99 from fewer than {CALLS_FOR_P99} calls (marked: few calls) may be too low: so few need not hold "
            f"one of the slowest."
        )
    return said
