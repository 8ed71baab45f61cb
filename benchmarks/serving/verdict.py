"""The goals of serving, beside what was measured."""

from collections.abc import Mapping
from typing import NamedTuple

from benchmarks.goals import Goal
from benchmarks.serving import lineup
from benchmarks.serving.figures import Standing
from benchmarks.serving.standings import Measured
from registry.records.benchmark import Interval

CONNECTIONS = (16, 32)
P99_MS = 10.0


class _Ratio(NamedTuple):
    """A rate of ours over another, at least so much."""

    upper: str
    lower: str
    goal: float


_AT_EACH = (
    _Ratio(lineup.BURNISH, lineup.BENTOML, 12),
    _Ratio(lineup.BURNISH, lineup.LITSERVE, 8),
    _Ratio(lineup.BURNISH, lineup.MLSERVER, 3.8),
    _Ratio(lineup.BURNISH, lineup.BARE, 0.85),
)
_AT_FIRST = (
    _Ratio(lineup.BURNISH_BINARY, lineup.BURNISH_WIDE, 1.2),
    _Ratio(lineup.BURNISH_GRPC, lineup.MLSERVER_GRPC, 1.6),
)
_TWO_WORKERS = 1.6


def goals(measured: Measured, missing: Mapping[str, str]) -> list[Goal]:
    """Return every goal.

    Args:
        measured: all rounds.
        missing: why a target was not measured, by the target's name.
    """
    found = []
    for connections in CONNECTIONS:
        found += [_ratio(measured, one, connections, missing) for one in _AT_EACH]
        p99 = measured.p99_ms(lineup.BURNISH, connections)
        found.append(
            Goal(
                name=f"p99 of Burnish, {connections} connections",
                measured=p99.estimate,
                relation="at most",
                goal=P99_MS,
                unit="ms",
                detail=_range(p99),
            )
        )
    found += [_ratio(measured, one, CONNECTIONS[0], missing) for one in _AT_FIRST]
    found.append(_two_workers(measured, CONNECTIONS[-1], missing))
    return [*found, no_errors(measured.standings())]


def no_errors(standings: list[Standing]) -> Goal:
    """Return the goal that every answer of every server was a success."""
    failed = [f"{one.target}: {one.errors}, {one.first_error}" for one in standings if one.errors]
    return Goal(
        name="failed requests, all servers",
        measured=sum(one.errors for one in standings),
        relation="at most",
        goal=0,
        detail="; ".join(failed),
    )


def _ratio(measured: Measured, asked: _Ratio, connections: int, missing: Mapping[str, str]) -> Goal:
    upper, lower = (asked.upper, connections), (asked.lower, connections)
    name = f"{asked.upper} over {asked.lower}, {connections} connections"
    if not (measured.has(*upper) and measured.has(*lower)):
        reason = missing.get(asked.lower) or missing.get(asked.upper) or "no answers in some round"
        return Goal(name=name, measured=0, relation="at least", goal=asked.goal, detail=f"not measured: {reason}")
    ratio = measured.ratio(upper, lower)
    return Goal(
        name=name,
        measured=ratio.estimate,
        relation="at least",
        goal=asked.goal,
        unit="times the rate",
        detail=_range(ratio),
    )


def _two_workers(measured: Measured, connections: int, missing: Mapping[str, str]) -> Goal:
    two, one = (lineup.BURNISH_2, connections), (lineup.BURNISH, connections)
    name = f"two workers over one, the load generator's cores counted out, {connections} connections"
    if not (measured.has(*two) and measured.has(*one)):
        reason = missing.get(lineup.BURNISH_2) or "no answers in some round"
        return Goal(name=name, measured=0, relation="at least", goal=_TWO_WORKERS, detail=f"not measured: {reason}")
    accounted, raw = measured.accounted(two, one), measured.ratio(two, one)
    return Goal(
        name=name,
        measured=accounted.estimate,
        relation="at least",
        goal=_TWO_WORKERS,
        unit="times the rate",
        detail=f"{_range(accounted)}; with the load generator on the same cores {raw.estimate:.2f}",
    )


def _range(interval: Interval) -> str:
    return f"[{interval.low:.3g}, {interval.high:.3g}]"
