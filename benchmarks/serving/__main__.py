"""``make bench-serving``: requests a second of the engine beside its peers and beside the limit, one worker each."""

import contextlib
import sys
from pathlib import Path

import click

from benchmarks.goals import report
from benchmarks.serving import lineup
from benchmarks.serving.check import answers, check
from benchmarks.serving.environments import CannotInstall, versions
from benchmarks.serving.figures import Standing
from benchmarks.serving.lineup import Entrant, Site
from benchmarks.serving.network import write_networks, write_requests
from benchmarks.serving.rounds import Bout, Plan, measure
from benchmarks.serving.servers import CannotStart, Server
from benchmarks.serving.standings import Measured
from benchmarks.serving.verdict import CONNECTIONS, goals, no_errors

FULL = Plan(cycles=15, seconds=1.5, warm_seconds=0.3)
SHORT = Plan(cycles=2, seconds=0.4, warm_seconds=0.1)

_AT_FIRST_ONLY = (
    lineup.BURNISH_WIDE, lineup.BURNISH_BINARY, lineup.BARE_WIDE, lineup.BARE_BINARY,
    lineup.BURNISH_GRPC, lineup.BARE_GRPC, lineup.MLSERVER_GRPC,
)  # fmt: skip
"""Measured under the smaller number of connections alone."""


class Field:
    """The servers that run, and why others do not."""

    def __init__(self, stack: contextlib.ExitStack, site: Site) -> None:
        """Take what ends the servers, and where they work."""
        self.bouts: list[Bout] = []
        self.pids: dict[str, tuple[int, ...]] = {}
        self.missing: dict[str, str] = {}
        """By target, or by server where its targets are not known."""
        self.versions: dict[str, dict[str, str]] = {}
        self._stack = stack
        self._site = site

    def enter(self, name: str) -> None:
        """Install and start one server and check its answers; a failure is kept, and ends nothing else."""
        click.echo(f"starting {name}")
        try:
            entrant = lineup.ALL[name](self._site)
        except (CannotInstall, CannotStart) as error:
            self.missing[name] = str(error)
            return
        try:
            self.pids[name] = self._start(name, entrant)
        except CannotStart as error:
            self.missing |= {target.name: str(error) for target in entrant.targets}
            return
        for target in entrant.targets:
            each = CONNECTIONS[:1] if target.name in _AT_FIRST_ONLY else CONNECTIONS
            self.bouts += [Bout(target, connections) for connections in each]

    def _start(self, name: str, entrant: Entrant) -> tuple[int, ...]:
        server = Server(name, entrant.command, self._site.folder / "logs" / f"{name}.log")
        self._stack.callback(server.stop)
        server.wait(lambda: answers(entrant.targets[0]))
        for target in entrant.targets:
            check(target, self._site.networks)
        python = Path(entrant.command.arguments[0]).with_name("python")
        self.versions[name] = versions(python)
        return server.pids()


@click.command()
@click.option("--short", is_flag=True, help="Burnish and the bare server only, in seconds: shows that all of it works.")
@click.option("--cycles", type=click.IntRange(min=1), help=f"Rounds of every target; {FULL.cycles} unless told.")
@click.option("--out", type=click.Path(path_type=Path), default=Path("build/bench"), help="Folder to write.")
def main(short: bool, cycles: int | None, out: Path) -> None:
    """Put every server under load in turn and show every goal; exit code 1: one is missed."""
    plan = SHORT if short else FULL
    plan = plan._replace(cycles=cycles or plan.cycles)
    folder = out / "serving"
    site = Site(folder, None if short else folder / "envs")
    write_networks(site.networks)
    write_requests(folder / "requests")
    with contextlib.ExitStack() as stack:
        field = Field(stack, site)
        for name in lineup.OURS if short else lineup.ALL:
            field.enter(name)
        click.echo(f"{plan.cycles} cycles of {len(field.bouts)} rounds of {plan.seconds:g} s")
        cycles_done = measure(field.bouts, field.pids, plan)
    measured = Measured(field.bouts, cycles_done)
    standings = measured.standings()
    _show(standings, field.missing)
    found = [no_errors(standings)] if short else goals(measured, field.missing)
    figures = {
        "standings": [one.model_dump(mode="json") for one in standings],
        "missing": field.missing,
        "versions": field.versions,
        "rounds": [[one.model_dump(mode="json") for one in cycle] for cycle in cycles_done],
    }
    sys.exit(report(found, out / "serving.json", figures))


def _show(standings: list[Standing], missing: dict[str, str]) -> None:
    click.echo(f"\n{'':30s}{'conn.':>6s}{'req/s':>9s}{'p50 ms':>9s}{'p99 ms':>9s}{'cores':>7s}{'req/core s':>11s}")
    for one in standings:
        click.echo(
            f"{one.target:30s}{one.connections:6d}{one.rate.estimate:9.0f}{one.p50_ms.estimate:9.2f}"
            f"{one.p99_ms.estimate:9.2f}{one.server_cpu:7.2f}{one.rate_per_core:11.0f}"
        )
    for name, reason in missing.items():
        click.echo(f"{name:30s} not measured: {reason}")


if __name__ == "__main__":
    main()
