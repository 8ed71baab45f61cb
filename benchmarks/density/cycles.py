"""Thousands of loads and unloads of the same models: what stays of each."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.density.engine import running
from benchmarks.density.nets import publish, small_nets
from benchmarks.density.progress import say
from benchmarks.goals import Goal

_MODELS = 20
_SAMPLE_EVERY = 20
_SAY_EVERY = 500
_SETTLED = 0.25
"""Of the cycles at the beginning: what libraries and allocators take once."""
_KIB = 1024
_ALLOWED_KIB = 1.0
"""For one cycle: a thousandth of what a small model holds would not show beside a process's own noise."""


class Size(NamedTuple):
    """How much is measured."""

    cycles: int
    resident_mib: int


def measure(home: Path, size: Size) -> tuple[list[Goal], dict[str, Any]]:
    """Load and unload models over the repository extension, and fit a line to the memory of the worker."""
    names = [net.name for net in small_nets(_MODELS)]
    publish(small_nets(_MODELS), home)
    samples = []
    with running(home, size.resident_mib) as engine:
        for number in range(size.cycles):
            if number % _SAY_EVERY == 0:
                say(f"load and unload {number + 1} of {size.cycles}")
            model = names[number % len(names)]
            for action in ("load", "unload"):
                engine.http.post(f"/v2/repository/models/{model}/{action}").raise_for_status()
            if number % _SAMPLE_EVERY == 0:
                samples.append((number, engine.held_bytes()))
        loads = engine.resident()["loads"]
    counts, held = np.array(samples, np.float64).T
    late = counts >= _SETTLED * size.cycles
    slope = float(np.polyfit(counts[late], held[late], 1)[0]) / _KIB
    detail = f"{size.cycles} cycles, {loads} loads"
    return (
        [
            Goal(
                name="memory that a load and unload leaves",
                measured=slope,
                relation="at most",
                goal=_ALLOWED_KIB,
                unit="KiB",
                detail=detail,
            ),
            Goal(name="loads of the cycles", measured=loads, relation="at least", goal=size.cycles),
        ],
        {"slope_kib": slope, "held_mib": [round(value / _KIB**2, 2) for value in held.tolist()]},
    )
