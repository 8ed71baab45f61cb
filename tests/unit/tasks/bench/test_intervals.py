"""Bootstrap intervals over rounds."""

import numpy as np
import pytest

from tasks.bench.intervals import latency_figures, resampled_rounds


def autocorrelated(
    rounds: int, calls: int, seed: int, strength: float = 0.9
) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    """[rounds, calls] around 1 ms: a slow wave that all calls of a round share, and noise of each call."""
    generator = np.random.default_rng(seed)
    wave = np.zeros(rounds)
    for place in range(1, rounds):
        wave[place] = strength * wave[place - 1] + generator.normal(scale=0.05)
    return np.asarray(np.exp(wave[:, None] + generator.normal(scale=0.05, size=(rounds, calls))), np.float64)


def test_the_figures_are_those_of_the_calls() -> None:
    latency = np.arange(1, 101, dtype=np.float64).reshape(20, 5)
    figures = latency_figures(4, latency)
    assert (figures.batch_size, figures.calls) == (4, 100)
    assert figures.latency_p50_ms.estimate == np.percentile(latency, 50)
    assert figures.latency_p99_ms.estimate == np.percentile(latency, 99)
    assert figures.throughput_per_s.estimate == pytest.approx(4 * 1000 / np.arange(1, 91).mean())


def test_constant_times_have_no_width() -> None:
    figures = latency_figures(1, np.full((30, 4), 2.0))
    assert (figures.latency_p50_ms.low, figures.latency_p50_ms.high) == (2.0, 2.0)
    assert figures.throughput_per_s.low == figures.throughput_per_s.high == 500


def test_the_same_seed_gives_the_same_interval() -> None:
    latency = autocorrelated(50, 4, seed=0)
    assert latency_figures(1, latency, seed=5) == latency_figures(1, latency, seed=5)


def test_rounds_are_drawn_in_blocks_of_neighbours() -> None:
    draws = resampled_rounds(64, seed=0, resamples=200)
    assert draws.shape == (200, 64)
    assert draws.min() == 0 and draws.max() == 63
    steps = (np.diff(draws, axis=1) % 64) == 1
    assert 0.7 < steps.mean() < 0.8  # blocks of 4: three steps of four go to the neighbour


def test_one_round_is_enough_to_answer() -> None:
    assert latency_figures(1, np.ones((1, 3))).latency_p99_ms.high == 1


def test_blocks_cover_the_truth_more_often_than_single_calls_would() -> None:
    """With a slow wave the true median is 1; calls resampled one by one claim far too much."""
    covered = alone = 0
    for seed in range(60):
        latency = autocorrelated(120, 4, seed=seed, strength=0.6)
        found = latency_figures(1, latency, seed=seed).latency_p50_ms
        covered += found.low <= 1 <= found.high
        flat = np.random.default_rng(seed).choice(latency.ravel(), size=(400, latency.size))
        low, high = np.percentile(np.median(flat, axis=1), [2.5, 97.5])
        alone += low <= 1 <= high
    assert covered >= 48
    assert covered > alone + 10
