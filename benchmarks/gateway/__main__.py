"""``make bench-gateway``: the gateway beside the engine's doors, its highest rate, a noisy neighbour, and its death."""

import contextlib
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import click
import httpx
import psutil

from benchmarks.gateway.open_loop import OpenGenerator, OpenRound
from benchmarks.gateway.site import NOISY_LIMIT_PER_S, GatewaySite, open_site
from benchmarks.goals import Goal, report
from benchmarks.serving.figures import Round, Target
from benchmarks.serving.rounds import Bout, Plan, measure

P99_MS = 10.0
RATE_PER_S = 5_000.0
AIM_PER_S = 10_000.0
_BACK_S = 30.0
_OUTLASTS_S = 0.5
"""How much longer the noise lasts than what is measured beside it."""
_SATURATED = 0.9
"""Of a core, for the engine's one worker; of all cores, for the machine."""


class Lengths(NamedTuple):
    """How long to measure."""

    closed: Plan
    open_seconds: float
    rates: tuple[float, ...]
    """Of the search for the highest one; it ends at the first that is too high and then halves the distance."""
    halvings: int
    agreeing: int
    """Of the times that one rate is held: so many decide, and it is held until they agree."""
    neighbour_rounds: int
    quiet_rate: float
    kills: int


FULL = Lengths(
    Plan(15, 1.5, 0.3), 5.0, (500, 1000, 2000, 3000, 4000, 5000, 6500, 8000, 10_000, 12_500), 3, 2, 9, 300, 5
)
SHORT = Lengths(Plan(2, 0.4, 0.1), 1.0, (200, 1000), 0, 1, 1, 100, 1)


def closed(site: GatewaySite, plan: Plan) -> tuple[list[Goal], dict[str, Any]]:
    """One worker by itself, through an Envoy that only passes on, and through the gateway, in turn."""
    pids = {site.direct.server: site.engine, "bare": site.bare_gateway, "gateway": (site.gateway().pid,)}
    with site.one_worker() as direct:
        seen_in_engine = site.json.model_copy(update={"server": direct.server})
        bouts = [Bout(target, 16) for target in (direct, site.bare, site.json, seen_in_engine)]
        cycles = measure([*bouts, *(Bout(target, 1) for target in (direct, site.bare, site.json))], pids, plan)
    over = median(cycle[2].rate / max(1e-9, cycle[0].rate) for cycle in cycles)
    bare = median(cycle[1].rate / max(1e-9, cycle[0].rate) for cycle in cycles)
    added = median(cycle[6].p50_ms - cycle[4].p50_ms for cycle in cycles)
    bare_added = median(cycle[5].p50_ms - cycle[4].p50_ms for cycle in cycles)
    by_itself = {"engine": _cores(cycles, 0), "load": median(cycle[0].client_cpu for cycle in cycles)}
    through = {
        "engine": _cores(cycles, 3),
        "Envoy": _cores(cycles, 2),
        "load": median(cycle[2].client_cpu for cycle in cycles),
    }
    detail = f"a bare Envoy {bare:.2f}; cores: direct, {_used(by_itself)}; through, {_used(through)}"
    errors = sum(one.errors for cycle in cycles for one in cycle)
    goals = [
        Goal(name="through / direct, 16 connections", measured=over, relation="at least", goal=0.75, detail=detail),
        Goal(
            name="median latency added, 1 connection",
            measured=added,
            relation="at most",
            goal=0.3,
            unit="ms",
            detail=f"a bare Envoy {bare_added:.3f}",
        ),
        Goal(name="errors of these rounds", measured=float(errors), relation="at most", goal=0),
    ]
    return goals, {"rounds": [[one.model_dump(mode="json") for one in cycle] for cycle in cycles]}


def _cores(cycles: list[list[Round]], bout: int) -> float:
    return median(cycle[bout].server_cpu for cycle in cycles)


def _used(cores: dict[str, float]) -> str:
    """Who used how many cores, and what was at its end."""
    full = [name for name, used in cores.items() if used > _SATURATED]
    if sum(cores.values()) > _SATURATED * (psutil.cpu_count() or 1):
        full.append("the machine")
    shown = ", ".join(f"{name} {used:.2f}" for name, used in cores.items())
    return f"{shown} ({' and '.join(full) or 'nothing of these'} saturated)"


def highest(site: GatewaySite, load: OpenGenerator, target: Target, lengths: Lengths) -> tuple[Goal, dict[str, Any]]:
    """The highest constant rate at which p99 stays low and nothing fails, with one worker.

    A second one would only halve what comes together, where gateway and load need the other core.
    """
    tried: list[dict[str, Any]] = []
    best, above = 0.0, None

    def hold(rate: float) -> OpenRound:
        processes = {"gateway": (site.gateway().pid,), "engine": site.engine}
        round_ = load.hold(lengths.open_seconds, (target, rate), processes=processes)[target.name]
        tried.append({"rate": rate, **round_.model_dump(mode="json")})
        return round_

    def holds(rate: float) -> bool:
        """One round alone says as much of what else the machine did; what fails in any of them fails."""
        quick: list[bool] = []
        while max(quick.count(True), quick.count(False)) < lengths.agreeing:
            round_ = hold(rate)
            if not _whole(round_):
                return False
            quick.append(round_.p99_ms < P99_MS)
        return quick.count(True) == lengths.agreeing

    for rate in lengths.rates:
        if not holds(rate):
            above = rate
            break
        best = rate
    for _ in range(lengths.halvings if above else 0):
        middle = (best + (above or best)) / 2
        best, above = (middle, above) if holds(middle) else (best, middle)
    kept = [one["cpu_us"] for one in tried if one["rate"] == best]
    used = {name: median(one[name] for one in kept) for name in kept[0]} if kept else {}
    shares = ", ".join(f"{name} {us:.0f}" for name, us in used.items()) or "nothing was held"
    detail = f"aim {AIM_PER_S:g}; CPU us a request: {shares}"
    name = f"highest rate of {target.name} with p99 under {P99_MS:g} ms and no error"
    goal = Goal(name=name, measured=best, relation="at least", goal=RATE_PER_S, unit="/s", detail=detail)
    return goal, {"tried": tried}


def neighbour(
    site: GatewaySite, load: OpenGenerator, noise: OpenGenerator, lengths: Lengths
) -> tuple[list[Goal], dict[str, Any]]:
    """What a tenant at ten times its limit does to another one's p99; rounds alone and together take turns.

    Each tenant's requests come from a process of its own: in one, the many would make the few late.
    """
    alone: list[OpenRound] = []
    beside: list[OpenRound] = []
    refused = 0
    quiet, noisy = (site.json, lengths.quiet_rate), (site.noisy, 10 * NOISY_LIMIT_PER_S)
    with ThreadPoolExecutor(1) as pool:
        for _ in range(lengths.neighbour_rounds):
            alone.append(load.hold(lengths.open_seconds, quiet, processes={})["json"])
            noises = pool.submit(noise.hold, lengths.open_seconds + _OUTLASTS_S, noisy, processes={})
            beside.append(load.hold(lengths.open_seconds, quiet, processes={})["json"])
            refused += noises.result()["noisy"].statuses.get("429", 0)
    ratio = median(one.p99_ms for one in beside) / median(one.p99_ms for one in alone)
    lost = sum(not _whole(one) for one in (*alone, *beside))
    goals = [
        Goal(name="p99 beside a tenant at ten times its limit", measured=ratio, relation="at most", goal=1.2, unit="x"),
        Goal(name="rounds in which the quiet tenant lost one", measured=float(lost), relation="at most", goal=0),
        Goal(name="requests of the noisy tenant refused", measured=float(refused), relation="at least", goal=1),
    ]
    rounds = {"alone": alone, "beside": beside}
    return goals, {name: [one.model_dump(mode="json") for one in each] for name, each in rounds.items()}


def killed(site: GatewaySite, times: int) -> tuple[Goal, dict[str, Any]]:
    """Seconds from the kill of Envoy to the next answer of a model."""
    taken = []
    headers = {**site.json.headers, "content-length": str(site.json.body.stat().st_size)}
    url = f"http://127.0.0.1:{site.json.ports[0]}{site.json.path}"
    for _ in range(times):
        site.gateway().kill()
        begun = time.perf_counter()
        while time.perf_counter() - begun < _BACK_S and not _answers(url, site.json.body.read_bytes(), headers):
            time.sleep(0.01)
        taken.append(time.perf_counter() - begun)
    goal = Goal(name="back after a kill, the slowest", measured=max(taken), relation="at most", goal=2.0, unit="s")
    return goal, {"seconds": taken}


def _answers(url: str, body: bytes, headers: dict[str, str]) -> bool:
    try:
        return httpx.post(url, content=body, headers=headers, timeout=5, trust_env=False).status_code == 200
    except httpx.TransportError:
        return False


def _whole(one: OpenRound) -> bool:
    return one.statuses == {"200": one.sent}


@click.command()
@click.option("--short", is_flag=True, help="Seconds only: shows that all of it works; no figure means anything.")
@click.option("--out", type=click.Path(path_type=Path), default=Path("build/bench"), help="Folder to write.")
def main(short: bool, out: Path) -> None:
    """Measure the gateway and show every goal; exit code 1: one is missed."""
    lengths = SHORT if short else FULL
    with contextlib.ExitStack() as stack:
        site = open_site(stack, out / "gateway")
        load = stack.enter_context(OpenGenerator())
        goals, figures = closed(site, lengths.closed)
        found: dict[str, Any] = {"closed": figures}
        with site.one_worker():
            for target in (site.json, site.binary, site.grpc):
                goal, found[target.name] = highest(site, load, target, lengths)
                goals.append(goal)
        noise = stack.enter_context(OpenGenerator())
        beside, found["neighbour"] = neighbour(site, load, noise, lengths)
        back, found["killed"] = killed(site, lengths.kills)
        goals += [*beside, back]
    sys.exit(report(goals, out / "gateway.json", found))


if __name__ == "__main__":
    main()
