"""Measure sessions in turns: in every round each runs a few calls, in random order, on the same inputs."""

import gc
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from registry.records.base import Record
from registry.records.model import Signature
from serving.runtime import Arrays, Session
from tasks.bench.energy import Meter, find_meter
from tasks.bench.intervals import CALLS_FOR_P99, Floats, resampled_rounds

TURN_MS = 10.0
"""About how long a session runs before the next one has its turn: short, so that all see the same machine."""

MAX_CALLS_A_TURN = 50
MIN_ROUNDS = 10
"""Measured even if the time is spent: fewer give no interval."""

ENOUGH_ROUNDS = 30
"""Measured, time allowing, before precision can end the measurement."""

VARIANTS = 8
"""Different inputs that the rounds go through."""

_WARM_UP_MS = 100.0
_MIN_WARM_UP_CALLS = 3
_ROUNDS_BETWEEN_LOOKS = 10


class Plan(Record):
    """How to measure."""

    batch_sizes: tuple[int, ...] = (1, 8)
    threads: int = 1
    seed: int = 0
    seconds_cap: float = 30.0
    """Time for the rounds of all batch sizes together."""
    half_width: float = 0.02
    """Stop when the interval of every session's p50 is this narrow, as a share of p50, and p99 has enough calls."""
    memory_mib: int = 16384
    """For all sessions together."""


@dataclass(frozen=True)
class Series:
    """The times of all sessions at one batch size, from the same rounds."""

    batch_size: int
    latency_ms: dict[str, Floats]
    """By session: [rounds, calls]."""
    energy_mj: dict[str, Floats]
    """By session: [rounds], of all calls of a turn; empty where the machine does not tell."""


def measured_batch_sizes(signature: Signature, asked: tuple[int, ...]) -> tuple[int, ...]:
    """Return the batch sizes that a model can run: those asked for, or the one that its shapes fix."""
    if signature.batched:
        return asked
    return (next((spec.shape[0] for spec in signature.inputs if spec.shape and spec.shape[0]), 1),)


def interleaved(
    sessions: Mapping[str, Session], inputs: Arrays, plan: Plan, on_turn: Callable[[str], None]
) -> tuple[Series, ...]:
    """Measure sessions of one signature against each other, one series a batch size.

    Args:
        sessions: by id; loaded.
        inputs: samples to draw from, axis 0 the samples.
        plan: batch sizes, time and precision.
        on_turn: called with a session's id before it runs, outside the time measured.
    """
    signature = next(iter(sessions.values())).signature
    sizes = measured_batch_sizes(signature, plan.batch_sizes)
    generator = np.random.default_rng(plan.seed)
    meter = find_meter()
    series = []
    for size in sizes:
        feeds = [_draw(inputs, size, generator) for _ in range(VARIANTS)]
        deadline = time.monotonic() + plan.seconds_cap / len(sizes)
        turns = _Turns(sessions, feeds, generator, on_turn, None if isinstance(meter, str) else meter)
        series.append(turns.measure(size, deadline, plan.half_width))
    return tuple(series)


def _draw(inputs: Arrays, size: int, generator: np.random.Generator) -> Arrays:
    total = len(next(iter(inputs.values())))
    rows = generator.choice(total, size=size, replace=size > total)
    return {name: np.ascontiguousarray(array[rows]) for name, array in inputs.items()}


@dataclass(frozen=True)
class _Turns:
    """Sessions that take turns on the same feeds."""

    sessions: Mapping[str, Session]
    feeds: list[Arrays]
    generator: np.random.Generator
    on_turn: Callable[[str], None]
    meter: Meter | None

    def measure(self, batch_size: int, deadline: float, half_width: float) -> Series:
        calls = {name: self._calls_a_turn(name) for name in self.sessions}
        rows: dict[str, list[Floats]] = {name: [] for name in self.sessions}
        energy: dict[str, list[float]] = {name: [] for name in self.sessions} if self.meter else {}
        rounds = 0
        while rounds < MIN_ROUNDS or time.monotonic() < deadline:
            for name in self.generator.permutation(list(self.sessions)):
                times, used_mj = self._turn(name, self.feeds[rounds % len(self.feeds)], calls[name])
                rows[name].append(times)
                if energy:
                    energy[name].append(used_mj)
            rounds += 1
            look = rounds >= ENOUGH_ROUNDS and rounds % _ROUNDS_BETWEEN_LOOKS == 0
            if look and all(_precise(found, half_width) for found in rows.values()):
                break
        return Series(
            batch_size=batch_size,
            latency_ms={name: np.stack(found) for name, found in rows.items()},
            energy_mj={name: np.array(found) for name, found in energy.items()},
        )

    def _calls_a_turn(self, name: str) -> int:
        """Warm a session up and return how many calls fill a turn."""
        self.on_turn(name)
        times: list[float] = []
        while len(times) < _MIN_WARM_UP_CALLS or (sum(times) < _WARM_UP_MS and len(times) < MAX_CALLS_A_TURN):
            times.extend(_time_calls(self.sessions[name], self.feeds[len(times) % len(self.feeds)], 1))
        # The quickest call, as nobody disturbed it: on a busy machine the median of a turn with many calls leaves out
        # those that were interrupted, that of a turn with few does not, so like sessions need as many.
        return int(np.clip(TURN_MS / np.min(times), 1, MAX_CALLS_A_TURN))

    def _turn(self, name: str, feed: Arrays, calls: int) -> tuple[Floats, float]:
        """The time of each call in milliseconds, and the energy of all in millijoules, 0 without a meter."""
        self.on_turn(name)
        session = self.sessions[name]
        session.run(feed)  # brings the session's weights back into the caches, not timed
        gc.disable()
        try:
            before = self.meter.read() if self.meter else ()
            times = _time_calls(session, feed, calls)
            return times, self.meter.used_mj(before, self.meter.read()) if self.meter else 0.0
        finally:
            gc.enable()


def _time_calls(session: Session, feed: Arrays, calls: int) -> Floats:
    times = np.empty(calls)
    for call in range(calls):
        started = time.perf_counter_ns()
        session.run(feed)
        times[call] = time.perf_counter_ns() - started
    return times / 1e6


def _precise(rows: list[Floats], half_width: float) -> bool:
    """True if p50 is known well enough, by the rounds' medians, and there are enough calls for p99."""
    if sum(len(row) for row in rows) < CALLS_FOR_P99:
        return False
    medians = np.array([np.median(row) for row in rows])
    found = np.median(medians[resampled_rounds(len(medians), seed=0, resamples=100)], axis=1)
    low, high = np.percentile(found, [2.5, 97.5])
    return bool((high - low) / 2 <= half_width * np.median(medians))
