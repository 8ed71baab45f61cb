"""Thousands of small models, asked by Zipf's law, under a budget for some of them."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.density.engine import Engine, running
from benchmarks.density.nets import SMALL_WIDTHS, publish, small_nets
from benchmarks.density.popularity import History, Places, zipf
from benchmarks.density.progress import say
from benchmarks.density.rounds import Loads, Round
from benchmarks.goals import Goal

_WIDTH = SMALL_WIDTHS[0]
_COLD_ASKS = 200
_UNASKED_SHARE = 20
"""One of so many models, and at most as many as are asked cold, is left to nobody until then."""
_CALIBRATED_MODELS = 200
_CALIBRATION_MIB = 1024
_BUSY = 0.5
"""Of the highest rate: how much is sent while latencies are taken, so that the load itself does not queue."""
_MOST_RATE = 40_000
_SLACK_BYTES = 16 * 2**20
"""With a twentieth of the budget at least: what the engine keeps for memory that no model accounts for."""
_MIB = 2**20


class Size(NamedTuple):
    """How much is measured."""

    models: int
    resident: int
    """Models that the budget is made for."""
    seconds: float
    """Of one round."""
    rounds: int
    """Each with one model, and then with all."""
    widths: tuple[int, ...] = SMALL_WIDTHS
    """Of each model's layers."""


class Seen(NamedTuple):
    """All that was measured of one engine."""

    single: list[Round]
    every: list[Round]
    paced: Round
    load_s: float
    """What one request takes longer for which a model is loaded, nothing else going on."""


def measure(home: Path, size: Size) -> tuple[list[Goal], dict[str, Any]]:
    """Measure one engine with all models registered, and return goals and figures.

    Args:
        home: its folder; models that it holds already are used again.
        size: how much.
    """
    nets = small_nets(size.models, size.widths)
    say(f"publish {size.models} models, where they are not yet")
    publish(nets, home)
    say("measure what one of them takes")
    names = tuple(net.name for net in nets)
    each = _bytes_of_one(home, names)
    wanted = size.resident * each
    say(f"start an engine with a budget for {size.resident} models")
    with running(home, int(np.ceil(max(wanted / 0.95, wanted + _SLACK_BYTES) / _MIB))) as engine:
        empty = engine.worker.memory_info().rss
        say(f"ready after {engine.start_s:.1f} s; ask until the budget is full")
        session = _Session(engine, names, size, home / "loads")
        session.fill()
        seen = session.measure()
        figures = _figures(engine, size, seen, each) | {"worker_start_rss_mib": empty / _MIB}
        return _goals(engine, size, seen, session.history), figures


class _Session:
    """One engine, and what it was asked so far."""

    def __init__(self, engine: Engine, names: tuple[str, ...], size: Size, folder: Path) -> None:
        self._engine, self._names, self._size = engine, names, size
        self._loads = Loads(engine, names, _WIDTH, folder)
        order = np.random.default_rng(0).permutation(size.models)
        unasked = min(_COLD_ASKS, size.models // _UNASKED_SHARE)
        self._order, self._unasked = order[unasked:], order[:unasked]
        self._rng = np.random.default_rng(1)
        self.history = History(size.models)

    def fill(self) -> None:
        """Ask until models had to go for others."""
        while not self._engine.resident()["evictions"]:
            self._run(self._popular(), self._size.seconds)

    def measure(self) -> Seen:
        """Ask one model and all of them in turns, then some that nobody asked yet, then all at a steady rate."""
        single, every = [], []
        for number in range(self._size.rounds):
            say(f"round {number + 1} of {self._size.rounds}: one model, then all")
            single.append(self._run(self._alone(), self._size.seconds))
            every.append(self._run(self._popular(), self._size.seconds))
        say("one by one, models that nobody asked for yet; then all at a steady rate")
        load_s = self._load_cost()
        rate = _BUSY * rate_of(every)
        return Seen(single, every, self._run(self._popular(), 2 * self._size.seconds, rate), load_s)

    def _run(self, places: Places, seconds: float, rate: float = 0.0) -> Round:
        done = self._loads.run(places, seconds, rate=rate)
        temperature = self.history.take(done.places, self._size.resident)
        return done._replace(temperature=temperature)

    def _popular(self) -> Places:
        return self._order[zipf(len(self._order), int(2 * self._size.seconds * _MOST_RATE), self._rng)]

    def _alone(self) -> Places:
        return np.full(int(self._size.seconds * _MOST_RATE), self._order[0])

    def _load_cost(self) -> float:
        """Ask models that are not loaded, one at a time, and one that is in between."""
        cold = [self._engine.ask(self._names[place], _WIDTH) for place in self._unasked]
        self.history.take(self._unasked, self._size.resident)
        warm = [self._engine.ask(self._names[self._unasked[-1]], _WIDTH) for _ in cold]
        return float(np.mean(cold) - np.mean(warm))


def rate_of(rounds: list[Round]) -> float:
    """Requests a second over some rounds."""
    return sum(len(one.places) for one in rounds) / sum(one.seconds for one in rounds)


def _bytes_of_one(home: Path, names: tuple[str, ...]) -> float:
    """What a loaded model takes, measured from outside in an engine that has room for all that are asked."""
    with running(home, _CALIBRATION_MIB) as engine:
        engine.ask(names[0], _WIDTH)
        before = engine.held_bytes()
        asked = names[1:_CALIBRATED_MODELS]
        for name in asked:
            engine.ask(name, _WIDTH)
        return max(1.0, (engine.held_bytes() - before) / len(asked))


def _goals(engine: Engine, size: Size, seen: Seen, history: History) -> list[Goal]:
    single, every = rate_of(seen.single), rate_of(seen.every)
    predicted = 1 / (1 / single + (1 - _hit_rate(seen.every)) * seen.load_s)
    bound = engine.resident()["bound_bytes"]
    failures = [failure for one in (*seen.single, *seen.every, seen.paced) for failure in one.failures]
    paced = seen.paced
    named = f"{size.models} models, budget for {size.resident}"
    return [
        _goal(f"start with {size.models} models", engine.start_s, "at most", 10, "s"),
        _goal("throughput of all over that of one model", every / single, "at least", 0.40, detail=named),
        _goal("throughput over what hit rate and load cost predict", every / predicted, "at least", 0.85),
        _goal("p99 of warm answers", paced.p99_ms(paced.temperature.warm), "at most", 10, "ms"),
        _goal("p99 of cold answers", paced.p99_ms(paced.temperature.cold), "at most", 50, "ms"),
        _goal("measured memory over the budget", engine.peak_bytes / bound, "at most", 1),
        _goal("failed requests", len(failures), "at most", 0, detail=failures[0] if failures else ""),
    ]


def _goal(name: str, measured: float | None, relation: Any, goal: float, unit: str = "", detail: str = "") -> Goal:  # noqa: ANN401
    return Goal(name=name, measured=measured, relation=relation, goal=goal, unit=unit, detail=detail)


def _figures(engine: Engine, size: Size, seen: Seen, each: float) -> dict[str, Any]:
    return {
        "models": size.models,
        "budget_models": size.resident,
        "bytes_of_one_model": each,
        "resident": engine.resident(),
        "peak_mib": engine.peak_bytes / _MIB,
        "start_s": engine.start_s,
        "requests_s_one_model": [one.rate for one in seen.single],
        "requests_s_all_models": [one.rate for one in seen.every],
        "engine_cpu_ms_one_model": [one.engine_cpu_ms for one in seen.single],
        "engine_cpu_ms_all_models": [one.engine_cpu_ms for one in seen.every],
        "load_cpu_share": [one.load_cpu_s / one.seconds for one in seen.every],
        "hit_rate": _hit_rate(seen.every),
        "load_cost_ms": 1e3 * seen.load_s,
        "paced_rate": seen.paced.rate,
        "paced_latency_ms": {
            name: {f"p{at}": seen.paced.percentile_ms(mask, at) for at in (50, 90, 99, 99.9)}
            for name, mask in seen.paced.temperature._asdict().items()
        },
        "closed_warm_p99_ms": [one.p99_ms(one.temperature.warm) for one in seen.every],
        "closed_cold_p99_ms": [one.p99_ms(one.temperature.cold) for one in seen.every],
    }


def _hit_rate(rounds: list[Round]) -> float:
    return 1 - sum(one.loads for one in rounds) / sum(len(one.places) for one in rounds)
