"""``make bench-density``: do thousands of models in one worker answer as few do?"""

import sys
from pathlib import Path
from typing import NamedTuple

import click

from benchmarks.density import cycles, large, small
from benchmarks.density.progress import say
from benchmarks.goals import report

RESULT_FILE = "density.json"


class Sizes(NamedTuple):
    """How much each part measures."""

    small: small.Size
    large: large.Size
    cycles: cycles.Size


FULL = Sizes(
    small.Size(models=20_000, resident=2_000, seconds=10.0, rounds=3),
    large.Size(models=40, resident=10, smallest_mb=10, largest_mb=50, seconds=20.0),
    cycles.Size(cycles=2_000, resident_mib=256),
)
SHORT = Sizes(
    small.Size(models=400, resident=200, seconds=1.0, rounds=1, widths=(16, 256, 256, 8)),
    large.Size(models=8, resident=4, smallest_mb=5, largest_mb=10, seconds=4.0),
    cycles.Size(cycles=200, resident_mib=256),
)


@click.command()
@click.option("--short", is_flag=True, help="Few models for a few seconds: that all of it works, not how quick it is.")
@click.option("--out", type=click.Path(path_type=Path), default=Path("build/bench"), help="Folder to write.")
def main(short: bool, out: Path) -> None:
    """Measure small models, large models, and what loads leave behind; exit code 1: a goal is missed."""
    sizes = SHORT if short else FULL
    home = (out / ("density-short" if short else "density")).absolute()
    goals, figures = [], {}
    for name, measured in (
        ("small", lambda folder: small.measure(folder, sizes.small)),
        ("large", lambda folder: large.measure(folder, sizes.large)),
        ("cycles", lambda folder: cycles.measure(folder, sizes.cycles)),
    ):
        say(f"{name}:")
        folder = home / name
        folder.mkdir(parents=True, exist_ok=True)
        found, seen = measured(folder)
        goals += found
        figures[name] = seen
    sys.exit(report(goals, out / RESULT_FILE, figures))


if __name__ == "__main__":
    main()
