"""How a search's winner stands to the hand-made lines, and the goals that follow; no measuring here."""

from collections.abc import Mapping, Sequence

import numpy as np

from benchmarks.figures import ContestRun, NetFigures, Standing
from benchmarks.goals import Goal
from registry.records.gate import PairedTest
from tasks.bench.compare import Speed, compare
from tasks.gates.paired import non_inferiority

MOST_RATIO = 1.05
"""The winner's p50 over the best hand-made line's."""

FIRST_BEST_S = 15.0
FASTER_NETS = 2
MARGIN = 0.01
"""A point of accuracy: what a winner may lose against the eager module, and a line to count as a rival."""

ALPHA = 0.05
EAGER = "torch eager"
"""The line that is there to compare; the search is held against the others."""


def pooled(runs: Sequence[ContestRun], batch_size: int) -> dict[str, np.ndarray]:
    """Return the medians of all rounds of all processes, [rounds, 1] by contestant."""
    names = runs[0].medians_ms[batch_size]
    return {
        name: np.concatenate([np.asarray(run.medians_ms[batch_size][name]) for run in runs])[:, None] for name in names
    }


def standing(runs: Sequence[ContestRun], batch_size: int, winner: str, label: str) -> Standing:
    """Hold a winner against the hand-made lines at one batch size.

    A line whose accuracy is more than a point below the eager module's is no rival: it is shown, and not counted.

    Args:
        runs: of the same contestants.
        batch_size: which rounds.
        winner: the contestant's name.
        label: the candidate's.

    Raises:
        ValueError: no line is a rival.
    """
    rounds = pooled(runs, batch_size)
    p50 = {name: float(np.median(values)) for name, values in rounds.items()}
    right = runs[0].right
    rivals = [name for name in runs[0].lines if name != EAGER and _is_right(right, name)]
    if not rivals:
        raise ValueError(f"no hand-made line can be a rival of {label}")
    best = min(rivals, key=lambda name: p50[name])
    lines = {name: p50[name] for name in runs[0].lines}
    return Standing(
        batch_size=batch_size,
        winner=label,
        p50_ms={"winner": p50[winner], **lines},
        best_line=best,
        difference=compare(rounds[best], rounds[winner], batch_size=batch_size, alpha=ALPHA),
        accuracy=float(np.mean(right[winner])) if right else None,
        fidelity=_fidelity(right, winner) if right else None,
    )


def _is_right(right: Mapping[str, tuple[bool, ...]], line: str) -> bool:
    return not right or float(np.mean(right[line])) >= float(np.mean(right[EAGER])) - MARGIN


def _fidelity(right: Mapping[str, tuple[bool, ...]], winner: str) -> PairedTest:
    reference, candidate = np.array(right[EAGER]), np.array(right[winner])
    return non_inferiority(reference, candidate, margin=MARGIN, alpha=ALPHA)


def goals(figures: Sequence[NetFigures], nets: Sequence[str]) -> list[Goal]:
    """Return every goal with what was measured of it.

    Args:
        figures: of the nets that were measured.
        nets: all that should be.
    """
    found = [goal for one in figures for goal in net_goals(one)]
    faster = [one.net for one in figures if all(stand.difference.speed is Speed.FASTER for stand in one.standings)]
    found.append(
        Goal(
            name="nets whose winners are strictly faster than every hand-made line, at all batch sizes",
            measured=len(faster),
            relation="at least",
            goal=FASTER_NETS,
            detail=", ".join(faster),
        )
    )
    missing = [name for name in nets if name not in {one.net for one in figures}]
    detail = f"missing: {', '.join(missing)}" if missing else ""
    found.append(
        Goal(
            name="nets measured", measured=len(nets) - len(missing), relation="at least", goal=len(nets), detail=detail
        )
    )
    return found


def net_goals(figures: NetFigures) -> list[Goal]:
    """Return the goals of one net: speed and accuracy of its winners, times of its search."""
    found = []
    for stand in figures.standings:
        found.append(_speed_goal(figures.net, stand))
        if stand.fidelity:
            found.append(_accuracy_goal(figures.net, stand, stand.fidelity))
    if figures.small:
        found.append(_most(f"{figures.net}: first valid best-so-far", figures.times.first_best_s, FIRST_BEST_S, "s"))
    budget_s = 60 * figures.times.budget_minutes
    found.append(_most(f"{figures.net}: the whole search within its budget", figures.times.whole_s, budget_s, "s"))
    return found


def _most(name: str, measured: float, goal: float, unit: str = "", detail: str = "") -> Goal:
    return Goal(name=name, measured=measured, relation="at most", goal=goal, unit=unit, detail=detail)


def _speed_goal(net: str, stand: Standing) -> Goal:
    ratio = stand.difference.ratio
    detail = (
        f"[{ratio.low:.3f}, {ratio.high:.3f}], {stand.difference.speed}: {stand.p50_ms['winner']:.4g} ms by "
        f"{stand.winner}, {stand.p50_ms[stand.best_line]:.4g} ms by {stand.best_line}"
    )
    name = f"{net}, batch {stand.batch_size}: winner's p50 over the best hand-made line's"
    return _most(name, ratio.estimate, MOST_RATIO, detail=detail)


def _accuracy_goal(net: str, stand: Standing, test: PairedTest) -> Goal:
    detail = (
        f"lost {test.losses} and won {test.wins} of {test.samples} labelled samples, "
        f"{100 * test.difference.estimate:+.2f} points; {test.verdict}"
    )
    name = f"{net}, batch {stand.batch_size}: p-value of the winner being a point less accurate than the eager module"
    return _most(name, test.p_value, ALPHA, detail=detail)
