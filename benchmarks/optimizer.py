"""``make bench-optimizer``: does the search find alone what an expert makes by hand, on five nets?"""

import sys
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import click

from benchmarks.contest import ContestJob, hold
from benchmarks.figures import ContestRun, NetFigures, SearchTimes, Standing
from benchmarks.goals import report
from benchmarks.hand_made.base import Prepared
from benchmarks.hand_made.write import write_lines
from benchmarks.nets.catalog import NETS
from benchmarks.prepare import prepare
from benchmarks.searching import run_search
from benchmarks.standing import EAGER, goals, standing
from registry.records.optimization import CandidateResult, OptimizationResult, Policy
from tasks.bench.environment import environment
from tasks.bench.measure import Plan
from tasks.bench.process import BenchItem
from tasks.optimizer.pareto import choose

BATCH_SIZES = (1, 8)
"""One search, one question to its finalists at each batch size: who answers soonest?"""

PROCESSES = 3
"""That measure one after the other; the rounds of all are pooled."""

SECONDS = 40.0
"""For the rounds of one process, all batch sizes together; nets that are not small get three times as much."""

FIGURES_FILE = "figures.json"
RESULT_FILE = "optimizer.json"
_PRECISION = 0.005


@click.command()
@click.option("--nets", help=f"Measure these only, comma-separated, of {', '.join(NETS)}; take the others as saved.")
@click.option("--budget", type=click.FloatRange(0, 10, min_open=True), default=10.0, help="Minutes for each search.")
@click.option("--seconds", type=float, default=SECONDS, help="For the rounds of one process.")
@click.option("--out", type=click.Path(path_type=Path), default=Path("build/bench"), help="Folder to write.")
def main(nets: str | None, budget: float, seconds: float, out: Path) -> None:
    """Search five nets, measure the winners beside the hand-made lines, show every goal; exit code 1: one is missed."""
    asked = tuple(nets.split(",")) if nets else tuple(NETS)
    unknown = [name for name in asked if name not in NETS]
    if unknown:
        raise click.BadParameter(f"there is no net {unknown[0]!r}; there are {', '.join(NETS)}", param_hint="--nets")
    work = out / "optimizer"
    for name in asked:
        figures = measure_net(name, work / name, budget, seconds)
        (work / name / FIGURES_FILE).write_text(figures.model_dump_json(indent=1), encoding="utf-8")
    saved = [one for name in NETS if (one := _saved(work / name / FIGURES_FILE))]
    for one in saved:
        _show(one)
    sys.exit(
        report(
            goals(saved, tuple(NETS)),
            out / RESULT_FILE,
            {"nets": [one.model_dump(mode="json") for one in saved]},
        )
    )


def measure_net(name: str, folder: Path, budget_minutes: float, seconds: float) -> NetFigures:
    """Train one net, write the hand-made lines, search, and hold the contest.

    Args:
        name: of the net.
        folder: its own; what an earlier run trained and wrote by hand is used again, a search is not.
        budget_minutes: for the search.
        seconds: for the rounds of one process.
    """
    files = folder / "net"
    _say(name, "trains")
    prepared = prepare(NETS[name], files)
    _say(name, "the hand-made lines are written")
    lines, failed = write_lines(prepared, files, folder / "hand_made")
    _say(name, f"the search runs, {budget_minutes:g} minutes at most")
    result, times = run_search(prepared.net, files, folder / "search", budget_minutes)
    _say(name, f"searched for {times.whole_s:.0f} s, first valid best-so-far after {times.first_best_s:.1f} s")
    return _contest(prepared, folder, lines, failed, (result, times), seconds)


def _contest(
    prepared: Prepared,
    folder: Path,
    lines: dict[str, Path],
    failed: dict[str, str],
    searched: tuple[OptimizationResult, SearchTimes],
    seconds: float,
) -> NetFigures:
    net, (result, times) = prepared.net, searched
    winners = {size: _winner(result, size) for size in BATCH_SIZES}
    items = {one.candidate.id: _item(one, folder / "search") for one in winners.values()}
    runs: list[ContestRun] = []
    for number in range(PROCESSES):
        _say(net.name, f"measures, {number + 1} of {PROCESSES}")
        cap = seconds if net.small else 3 * seconds
        plan = Plan(batch_sizes=BATCH_SIZES, seed=number, seconds_cap=cap, half_width=_PRECISION)
        job = ContestJob(
            net=net.name,
            prepared=(folder / "net").absolute(),
            lines={name: place.absolute() for name, place in lines.items()},
            winners=tuple(items.values()),
            signature=next(iter(items.values())).signature,
            plan=plan,
        )
        runs.append(hold(job, folder / f"contest-{number + 1}", timeout_s=3 * cap))
    return NetFigures(
        net=net.name,
        small=net.small,
        measured_at=datetime.now(UTC).isoformat(timespec="seconds"),
        environment=environment(),
        times=times,
        candidates=dict(Counter(str(one.status) for one in result.candidates)),
        standings=tuple(standing(runs, size, one.candidate.id, one.candidate.label) for size, one in winners.items()),
        line_accuracy={name: sum(right) / len(right) for name, right in runs[0].right.items() if name in lines},
        failed_lines=failed,
    )


def _winner(result: OptimizationResult, size: int) -> CandidateResult:
    """Who wins a search by the policy ``min_latency`` if batches of one size are all that is asked about.

    Raises:
        RuntimeError: nobody does.
    """
    finalists = [one for one in result.candidates if one.finalist and one.benchmark]
    chosen = choose([_at(one, size) for one in finalists], Policy.MIN_LATENCY)
    if chosen is None:
        raise RuntimeError("no candidate passed its gate, not even the baseline; see the search's report")
    return chosen


def _at(result: CandidateResult, size: int) -> CandidateResult:
    """A result with the figures of one batch size alone."""
    assert result.benchmark
    benchmark = result.benchmark.model_copy(update={"latency": (result.benchmark.at_batch(size),)})
    return result.model_copy(update={"benchmark": benchmark})


def _item(result: CandidateResult, search: Path) -> BenchItem:
    assert result.folder
    assert result.artifact
    assert result.signature
    return BenchItem(
        id=result.candidate.id,
        folder=(search / result.folder / "artifact").absolute(),
        artifact=result.artifact.format,
        runtime=result.candidate.runtime,
        signature=result.signature,
    )


def _saved(file: Path) -> NetFigures | None:
    """What was measured of a net, by this run or by an earlier one in the same environment."""
    if not file.is_file():
        return None
    figures = NetFigures.model_validate_json(file.read_text(encoding="utf-8"))
    return figures if figures.environment == environment() else None


def _say(net: str, text: str) -> None:
    click.echo(f"{datetime.now(UTC):%H:%M:%S} {net}: {text}")


def _show(figures: NetFigures) -> None:
    click.echo(f"\n{figures.net}, measured at {figures.measured_at}")
    sizes = [stand.batch_size for stand in figures.standings]
    click.echo(f"  {'p50 in ms at batch':40s}" + "".join(f"{size:>10d}" for size in sizes) + "  accuracy")
    for name in figures.standings[0].p50_ms:
        cells = "".join(f"{stand.p50_ms[name]:10.4f}" for stand in figures.standings)
        click.echo(f"  {name:40s}{cells}{_accuracy(figures, name, figures.standings[0])}")
    for name, reason in figures.failed_lines.items():
        click.echo(f"  {name:40s}  none: {reason}")


def _accuracy(figures: NetFigures, name: str, stand: Standing) -> str:
    found = stand.accuracy if name == "winner" else figures.line_accuracy.get(name)
    note = " (to compare)" if name == EAGER else ""
    return "" if found is None else f"  {found:8.1%}{note}"


if __name__ == "__main__":
    main()
