"""Intervals of latency and throughput by a block bootstrap over rounds.

Calls that follow one another share the machine's mood, so single calls are not independent. Rounds are resampled in
blocks of neighbours; inside a round calls stay together.

Source: Kunsch, The jackknife and the bootstrap for general stationary observations, Annals of Statistics 17 (1989);
block length of the order n^(1/3), Hall, Horowitz and Jing, Biometrika 82 (1995).
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from registry.records.benchmark import Interval, LatencyFigures

CONFIDENCE = 0.95
RESAMPLES = 400

CALLS_FOR_P99 = 299
"""With fewer calls even the slowest one does not bound p99 from above with 95 % confidence: 1 - .99^n >= .95."""

Floats = npt.NDArray[np.float64]


def latency_figures(
    batch_size: int, latency_ms: Floats, energy_mj: Floats | None = None, *, seed: int = 0
) -> LatencyFigures:
    """Return the figures of one session at one batch size.

    Args:
        batch_size: samples a call.
        latency_ms: [rounds, calls], the time of each call.
        energy_mj: [rounds], the energy of all calls of a round, where the machine tells it.
        seed: of the bootstrap.
    """
    draws = resampled_rounds(len(latency_ms), seed=seed)
    energy = None
    if energy_mj is not None:
        calls = latency_ms.shape[1]
        (energy,) = intervals(energy_mj, draws, lambda used: (float(np.mean(used)) / calls,))
    p50, p99, throughput = intervals(latency_ms, draws, lambda calls: _statistics(calls, batch_size))
    return LatencyFigures(
        batch_size=batch_size,
        calls=latency_ms.size,
        latency_p50_ms=p50,
        latency_p99_ms=p99,
        throughput_per_s=throughput,
        energy_mj=energy,
    )


def _statistics(latency_ms: Floats, batch_size: int) -> tuple[float, float, float]:
    p50, p90, p99 = np.percentile(latency_ms, [50, 90, 99])
    # A call that another process cut in on takes a hundred times as long as a small network: a mean would be of those.
    return float(p50), float(p99), 1000 * batch_size / float(np.mean(latency_ms[latency_ms <= p90]))


def resampled_rounds(rounds: int, *, seed: int, resamples: int = RESAMPLES) -> npt.NDArray[np.intp]:
    """Return [resamples, rounds] indices: blocks of neighbouring rounds, drawn with replacement, on a circle."""
    length = max(1, round(rounds ** (1 / 3)))
    blocks = -(-rounds // length)
    starts = np.random.default_rng(seed).integers(rounds, size=(resamples, blocks))
    indices = (starts[:, :, None] + np.arange(length)) % rounds
    return indices.reshape(resamples, -1)[:, :rounds]


def intervals(
    values: Floats, draws: npt.NDArray[np.intp], statistics: Callable[[Floats], tuple[float, ...]]
) -> tuple[Interval, ...]:
    """Return statistics of [rounds, ...] values, each with its percentile bootstrap interval."""
    found = np.array([statistics(values[rows]) for rows in draws])
    bounds = np.percentile(found, [50 * (1 - CONFIDENCE), 50 * (1 + CONFIDENCE)], axis=0)
    return tuple(
        Interval(estimate=estimate, low=min(float(low), estimate), high=max(float(high), estimate))
        for estimate, low, high in zip(statistics(values), *bounds, strict=True)
    )
