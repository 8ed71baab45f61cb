"""A few large models under a budget for a quarter of them, beside a small one that is asked all the time."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.density.engine import Engine, running
from benchmarks.density.nets import SMALL_WIDTHS, Net, large_nets, publish
from benchmarks.density.progress import say
from benchmarks.density.rounds import Loads, Round
from benchmarks.goals import Goal

_HOT = Net("hot", SMALL_WIDTHS, pinned=True)
_HOT_RATE = 300.0
_HOT_CONNECTIONS = 4
_MIB = 2**20
_SPARE = 1.3
"""Memory of a loaded model, and room for the peak of a load, over the size of its artifact."""


class Size(NamedTuple):
    """How much is measured."""

    models: int
    resident: int
    smallest_mb: float
    largest_mb: float
    seconds: float


def measure(home: Path, size: Size) -> tuple[list[Goal], dict[str, Any]]:
    """Ask large models one after the other while a small one is asked at a steady rate.

    Args:
        home: its folder; models that it holds already are used again.
        size: how much.
    """
    nets = large_nets(size.models, size.smallest_mb, size.largest_mb)
    say(f"publish {size.models} models, where they are not yet")
    publish([*nets, _HOT], home)
    mean_mb = (size.smallest_mb + size.largest_mb) / 2
    with running(home, int(_SPARE * size.resident * mean_mb * 1e6 / _MIB)) as engine:
        say("ask a small model alone, and then while large ones load")
        loads = Loads(engine, (_HOT.name,), SMALL_WIDTHS[0], home / "loads")
        places = np.zeros(int(_HOT_RATE * size.seconds), np.int64)
        calm = loads.run(places, size.seconds, connections=_HOT_CONNECTIONS, rate=_HOT_RATE)
        busy = loads.start(places, size.seconds, connections=_HOT_CONNECTIONS, rate=_HOT_RATE)
        answered = _ask_in_turn(engine, nets, busy.running)
        seen = busy.finish()
        return _goals(engine, size, calm, seen), _figures(engine, calm, seen, answered)


def _ask_in_turn(engine: Engine, nets: list[Net], running: Callable[[], bool]) -> list[float]:
    """Ask models in a random order until the load is over; return the seconds of each answer."""
    rng = np.random.default_rng(2)
    seconds = []
    while running():
        net = nets[int(rng.integers(len(nets)))]
        seconds.append(engine.ask(net.name, net.widths[0]))
    return seconds


def _goals(engine: Engine, size: Size, calm: Round, seen: Round) -> list[Goal]:
    named = f"{size.models} models of {size.smallest_mb:g}-{size.largest_mb:g} MB, budget for {size.resident}"
    bound = engine.resident()["bound_bytes"]
    failures = [*calm.failures, *seen.failures]
    return [
        Goal(
            name="p99 of a small model while large ones load",
            measured=seen.percentile_ms(np.ones(len(seen.places), bool), 99),
            relation="at most",
            goal=10,
            unit="ms",
            detail=f"{named}, {seen.loads} loads",
        ),
        Goal(name="loads meanwhile", measured=seen.loads, relation="at least", goal=3),
        Goal(
            name="measured memory over the budget, large models",
            measured=engine.peak_bytes / bound,
            relation="at most",
            goal=1,
        ),
        Goal(name="failed requests, large models", measured=len(failures), relation="at most", goal=0),
    ]


def _figures(engine: Engine, calm: Round, seen: Round, answered: list[float]) -> dict[str, Any]:
    every = np.ones(len(seen.places), bool)
    calm_every = np.ones(len(calm.places), bool)
    return {
        "hot_latency_ms_calm": {f"p{at}": calm.percentile_ms(calm_every, at) for at in (50, 99, 99.9, 100)},
        "hot_latency_ms_while_loading": {f"p{at}": seen.percentile_ms(every, at) for at in (50, 99, 99.9, 100)},
        "large_answers": len(answered),
        "large_answer_s": {f"p{at}": float(np.percentile(answered, at)) for at in (50, 99)},
        "loads": seen.loads,
        "resident": engine.resident(),
        "peak_mib": engine.peak_bytes / _MIB,
    }
