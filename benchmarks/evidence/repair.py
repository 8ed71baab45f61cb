"""A net with depthwise convolutions that plain int8 damages: refused, repaired, and still faster than float."""

from pathlib import Path

from benchmarks import depthwise
from benchmarks.evidence.simulations import Found
from benchmarks.goals import Goal

UNMEASURED = 99.0
"""The ratio where no repair passed: a goal that is missed, in JSON that can be read."""


def repair(folder: Path) -> Found:
    """Search for the fastest version of the net, and measure what was repaired beside float."""
    figures = depthwise.measure(folder)
    ratios = [one["ratio"]["1"]["high"] for one in figures["repairs"] if "1" in one["ratio"]]
    return [
        Goal(
            name="accuracy that plain int8 loses on the depthwise net, refused by fidelity",
            measured=max(figures["points_lost"].values(), default=0.0),
            relation="at least",
            goal=1,
            unit="points",
            detail=", ".join(figures["points_lost"]),
        ),
        Goal(
            name="latency of the best repair over float's on its runtime, upper end of the interval",
            measured=min(ratios, default=UNMEASURED),
            relation="at most",
            goal=1,
            detail=f"{len(figures['repairs'])} repairs passed the gate",
        ),
    ], {"depthwise": figures}
