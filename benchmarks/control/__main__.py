"""``make bench-control``: how long do a list, a search and a promotion take among ten thousand models?"""

import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import click

from benchmarks.control import platform, postgres
from benchmarks.control.calls import Timings, measure
from benchmarks.density.engine import running as engine
from benchmarks.goals import Goal, report
from benchmarks.ports import free_ports
from flows.settings import StackSettings

RESULT_FILE = "control.json"
GOAL_MS = 100.0
RESIDENT_MIB = 512


class Size(NamedTuple):
    """How much is measured."""

    tenants: int
    models: int
    calls: int
    """Of each kind."""


FULL, SHORT = Size(tenants=50, models=10_000, calls=500), Size(tenants=2, models=40, calls=10)


@click.command()
@click.option("--short", is_flag=True, help="Few models and calls: that all of it works, not how quick it is.")
@click.option("--out", type=click.Path(path_type=Path), default=Path("build/bench"), help="Folder to write.")
def main(short: bool, out: Path) -> None:
    """Measure on SQLite and on Postgres; exit code 1: a goal is missed."""
    size = SHORT if short else FULL
    goals, figures = [], {}
    for database in ("sqlite", "postgres"):
        home = (out / "control" / database).absolute()
        shutil.rmtree(home, ignore_errors=True)
        home.mkdir(parents=True)
        _say(f"{size.models} models of {size.tenants} tenants on {database}")
        with _ledger(database, home) as url:
            found = _measure(home, url, size)
        figures[database] = {name: timings.figures() for name, timings in found.items()}
        goals += [_goal(database, name, timings, size) for name, timings in found.items()]
    sys.exit(report(goals, out / RESULT_FILE, {"size": size._asdict(), **figures}))


def _measure(home: Path, ledger_url: str, size: Size) -> dict[str, Timings]:
    models = platform.names(size.tenants, size.models)
    keys = platform.fill(StackSettings(home=home, ledger_url=ledger_url), models)
    _say("ledger and catalog are filled; starting the engine")
    with engine(home, RESIDENT_MIB) as worker:
        control, mlflow, prefect = free_ports([(0,)] * 3)
        settings = StackSettings(
            home=home,
            ledger_url=ledger_url,
            workers=1,
            door_port=worker.port,
            control_port=control,
            mlflow_port=mlflow,
            prefect_port=prefect,
        )
        with platform.running(settings):
            _say(f"the control API answers; {size.calls} calls of each kind")
            found = measure(settings, models, keys, size.calls, _say)
        _say("stopping the engine")
        return found


def _say(what: str) -> None:
    click.echo(f"{datetime.now(UTC):%H:%M:%S} {what}")


def _goal(database: str, name: str, timings: Timings, size: Size) -> Goal:
    figures: dict[str, Any] = timings.figures()
    return Goal(
        name=f"{name} on {database}, p99",
        measured=figures["p99_ms"],
        relation="at most",
        goal=GOAL_MS,
        unit="ms",
        detail=f"median {figures['p50_ms']:.1f} ms, {figures['calls']} calls, {size.models} models",
    )


@contextmanager
def _ledger(database: str, home: Path) -> Iterator[str]:
    if database == "sqlite":
        yield f"sqlite:///{home / 'ledger.db'}"
    else:
        with postgres.running(free_ports([(0,)])[0]) as url:
            yield url


if __name__ == "__main__":
    main()
