"""The report page of an optimization: one HTML file with its plots inside, which needs no network."""

from pathlib import Path

import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from registry.records.optimization import OptimizationResult
from tasks.bench.intervals import CALLS_FOR_P99, CONFIDENCE
from tasks.gates.metrics import describe_metric
from tasks.optimizer import wording
from tasks.optimizer.pareto import LATENCY, SIZE, THROUGHPUT, Axis, latency_at_largest_batch, latency_at_smallest_batch
from tasks.optimizer.report_plots import MOST_LATENCIES, front_plot, latency_plot, sensitivity_plot, standalone
from tasks.optimizer.report_rows import Group, Row, float_layers, refusals_by_rule, rows

REPORT_FILE = "report.html"
LATENCY_PLOT, FRONT_PLOT = "latency.svg", "front.svg"

_MOST_NEAR = 6
"""Candidates that passed and lost, shown at once; the others unfold."""
_COUNTED = {
    Group.FRONT: "on the front or a baseline",
    Group.NEAR: "passed and lost to the front",
    Group.UNFINISHED: "not finished",
    Group.REFUSED: "refused",
    Group.FAILED: "failed",
    Group.SKIPPED: "skipped",
}
_COLUMNS = (
    ("p50", "p50"),
    ("p99", "p99"),
    ("Throughput", "throughput"),
    ("Score", "score"),
    ("Size", "size"),
    ("Memory", "memory"),
    ("Energy a call", "energy"),
    ("Cost a million", "cost"),
)

_TEMPLATES = Path(__file__).parent / "templates"


def write_report(result: OptimizationResult, folder: Path) -> Path:
    """Write ``report.html`` into a folder and return its path.

    The page is self-contained, follows light and dark, fits a phone and paper, and escapes every name that it shows.
    """
    described = rows(result)
    measured = _measured(described)
    found, in_float = result.sensitivity, float_layers(result)
    groups = {group.value: [row for row in described if row.group is group] for group in Group}
    page = (
        _environment()
        .get_template("report.html.j2")
        .render(
            result=result,
            rows=described,
            groups=groups,
            counts=[(_COUNTED[group], len(groups[group])) for group in Group if groups[group]],
            columns=_columns(described),
            most_near=_MOST_NEAR,
            refusals=", ".join(f"{count} by {rule}" for rule, count in refusals_by_rule(described)),
            winner=next((row for row in described if row.winner), None),
            winner_repairs=result.chosen is not None and result.chosen.repairs is not None,
            tiles=_tiles(result),
            plots=[latency_plot(measured), front_plot(measured)] if measured else [],
            plotted=min(len(measured), MOST_LATENCIES),
            measured=len(measured),
            sensitivity=sensitivity_plot(found, in_float) if found and found.layers else None,
            in_float=in_float,
            policy=_policy(result),
            metric=describe_metric(result.metric),
            method=_method(result, measured),
            configuration=yaml.safe_dump(result.config.model_dump(mode="json", exclude_none=True), sort_keys=False),
            data_size=wording.data_size,
            percent=wording.percent,
        )
    )
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / REPORT_FILE
    path.write_text(page, encoding="utf-8")
    return path


def write_plots(result: OptimizationResult, folder: Path) -> None:
    """Write the report's plots as SVG files, ``latency.svg`` and ``front.svg``; nothing if nothing was measured."""
    measured = _measured(rows(result))
    if measured:
        for name, plot in ((LATENCY_PLOT, latency_plot(measured)), (FRONT_PLOT, front_plot(measured))):
            (folder / name).write_text(standalone(plot), encoding="utf-8")


def _measured(described: list[Row]) -> list[Row]:
    return [row for row in described if row.result.benchmark and row.result.score]


def _columns(described: list[Row]) -> list[tuple[str, str]]:
    """The columns of the table: energy and cost only where a candidate has them."""
    return [(label, name) for label, name in _COLUMNS if any(getattr(row, name).value for row in described)]


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
    tiles = [
        (f"p50 latency, batch {first.batch_size}", LATENCY.text(winner), beside(LATENCY, "faster")),
        (f"throughput, batch {last.batch_size}", THROUGHPUT.text(winner), beside(THROUGHPUT, "more")),
        (f"score on {result.samples} samples", wording.percent(winner.score.estimate), score),
        ("size", SIZE.text(winner), beside(SIZE, "smaller")),
    ]
    if winner.cost_per_million is not None:
        theirs = (other or winner).cost_per_million
        compared = "the baseline itself" if other is None else f"baseline {wording.money(theirs or 0.0)}"
        tiles.append(("cost of a million requests", wording.money(winner.cost_per_million), compared))
    return tiles


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
    said += [_cost_method(result), _energy_method(result)]
    calls = [latency_at_smallest_batch(row.result).calls for row in measured]
    if calls and min(calls) < CALLS_FOR_P99:
        said.append(
            f"p99 from fewer than {CALLS_FOR_P99} calls (marked: few calls) may be too low: so few need not hold "
            f"one of the slowest."
        )
    return said


def _cost_method(result: OptimizationResult) -> str:
    price = result.config.price_per_core_hour
    if price is None:
        return "For the cost of a million requests, give price_per_core_hour in the configuration, in any currency."
    return (
        f"Cost of a million requests: {price:g} a core-hour times the threads of a run times p50 at the smallest batch "
        "size, one call at a time."
    )


def _energy_method(result: OptimizationResult) -> str:
    source = result.environment.energy
    return f"Energy of a call: {source}." if source else "Energy of a call was not looked at."
