"""Run every point and compare it with its goal."""

import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click

from benchmarks.evidence import real, simulations, speed
from benchmarks.evidence.repair import repair
from benchmarks.evidence.scale import SHORT, WHOLE, Scale
from benchmarks.evidence.simulations import Found
from benchmarks.evidence.subjects import digits
from benchmarks.goals import Goal, report

FILE = Path("build/bench/evidence.json")


@click.command()
@click.option("--short", is_flag=True, help="A few repeats of everything, in a minute; figures are rough.")
@click.option("--out", type=click.Path(path_type=Path), default=FILE, show_default=True, help="The JSON to write.")
def main(short: bool, out: Path) -> None:
    """Measure what the gate lets through and what the benchmark calls different; exit 1 where a goal is missed."""
    goals: list[Goal] = []
    figures: dict[str, Any] = {"scale": (SHORT if short else WHOLE).model_dump()}
    with tempfile.TemporaryDirectory() as folder:
        for name, point in _points(SHORT if short else WHOLE, Path(folder)):
            click.echo(f"{name} ...", err=True)
            found, more = point()
            goals += found
            figures |= more
    sys.exit(report(goals, out, figures))


def _points(scale: Scale, folder: Path) -> Iterator[tuple[str, Callable[[], Found]]]:
    yield "a planted loss, by simulation", lambda: simulations.planted_loss(scale)
    yield "too few samples", simulations.too_few
    yield "the level at the margin", lambda: simulations.level(scale)
    yield "the level of scores from 0 to 1", lambda: simulations.bounded_level(scale)
    yield "the worst slice", lambda: simulations.slices(scale)
    subject = digits(folder, scale.epochs)
    yield "a planted loss, on a net", lambda: real.planted_on_a_net(subject, scale)
    yield "batch invariance", lambda: real.invariance(subject, folder)
    candidates = speed.made(subject, scale)
    yield "an artifact beside itself", lambda: speed.a_a(subject, candidates, scale, folder)
    yield "the front again", lambda: speed.fronts(subject, candidates, scale, folder)
    if scale.all_candidates:
        yield "depthwise convolutions", lambda: repair(folder / "depthwise")


if __name__ == "__main__":
    main()
