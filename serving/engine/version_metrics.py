"""What is told of every version: the families, and how they are read from its statistics.

The names that begin with ``nv_`` are Triton's, so that its dashboards show Burnish as they are.

Source: https://github.com/triton-inference-server/server, docs/user_guide/metrics.md.
"""

from collections.abc import Callable
from typing import NamedTuple

from serving.engine.exposition import Exposition, Family
from serving.engine.statistics import BOUNDS_NS, FAILURES, Statistics

_NS_PER_US = 1000
_NS_PER_S = 1e9
_BOUNDS_S = tuple(bound / _NS_PER_S for bound in BOUNDS_NS)
_NO_TIMES = [0] * (len(BOUNDS_NS) + 1)
BATCH_BOUNDS = (1, 2, 4, 8, 16, 32, 64, 128)


class Counter(NamedTuple):
    """One counter of a version, by family and own labels."""

    family: Family
    read: Callable[[Statistics], int]
    divisor: int = 1
    labels: str = ""


class Distribution(NamedTuple):
    """One histogram of a version."""

    family: Family
    bounds: tuple[float, ...]
    divisor: float
    read: Callable[[Statistics], list[int]]
    """The buckets, and behind them the sum."""


def _failures(reason: str) -> Callable[[Statistics], int]:
    return lambda s: s.failures.get(reason, 0)


_FAILURE = Family("nv_inference_request_failure", "counter", "Requests that reached their version and failed.")

COUNTERS = (
    Counter(
        Family("nv_inference_request_success", "counter", "Requests that were answered."), lambda s: s.success.count
    ),
    *(Counter(_FAILURE, _failures(reason), labels=f'reason="{reason}"') for reason in FAILURES),
    Counter(Family("nv_inference_count", "counter", "Samples in computed answers."), lambda s: s.inferences),
    Counter(Family("nv_inference_exec_count", "counter", "Runs of the session."), lambda s: s.executions),
    Counter(
        Family("nv_inference_request_duration_us", "counter", "Time of answered requests inside the engine."),
        lambda s: s.success.ns,
        _NS_PER_US,
    ),
    Counter(
        Family("nv_inference_queue_duration_us", "counter", "Time that requests waited for a run."),
        lambda s: s.queue.ns,
        _NS_PER_US,
    ),
    Counter(
        Family("nv_inference_compute_infer_duration_us", "counter", "Time of runs, once for each request in them."),
        lambda s: s.compute.ns,
        _NS_PER_US,
    ),
    Counter(
        Family("nv_cache_num_hits_per_model", "counter", "Requests answered from the response cache."),
        lambda s: s.cache_hit.count,
    ),
    Counter(
        Family("nv_cache_num_misses_per_model", "counter", "Requests that the response cache had no answer for."),
        lambda s: s.cache_miss.count,
    ),
    Counter(
        Family("nv_cache_hit_duration_per_model", "counter", "Microseconds to find answers in the response cache."),
        lambda s: s.cache_hit.ns,
        _NS_PER_US,
    ),
    Counter(
        Family("nv_cache_miss_duration_per_model", "counter", "Microseconds to look for answers and to keep them."),
        lambda s: s.cache_miss.ns,
        _NS_PER_US,
    ),
)

DISTRIBUTIONS = (
    Distribution(
        Family("burnish_request_duration_seconds", "histogram", "Time of an answered request inside the engine."),
        _BOUNDS_S,
        _NS_PER_S,
        lambda s: [*(s.success.buckets or _NO_TIMES), s.success.ns],
    ),
    Distribution(
        Family("burnish_queue_duration_seconds", "histogram", "Time that a queued request waited for its run."),
        _BOUNDS_S,
        _NS_PER_S,
        lambda s: [*(s.queue.buckets or _NO_TIMES), s.queue.ns],
    ),
    Distribution(Family("burnish_batch_size", "histogram", "Samples in a run."), BATCH_BOUNDS, 1, lambda s: _sizes(s)),
)

PENDING = Family("nv_inference_pending_request_count", "gauge", "Requests that wait for a run.")
GENERATION = Family("burnish_catalog_generation", "gauge", "The generation of the model's entry that is in force.")

Row = list[int]
"""All counters of a version, in the order of the tables: they can be added up and taken from one another."""


def read_row(statistics: Statistics) -> Row:
    """Read everything that is told of a version."""
    row = [counter.read(statistics) for counter in COUNTERS]
    for distribution in DISTRIBUTIONS:
        row += distribution.read(statistics)
    return row


def write_row(exposition: Exposition, row: Row, labels: str) -> None:
    """Write one version's samples."""
    for counter, value in zip(COUNTERS, row, strict=False):
        own = f"{labels},{counter.labels}" if counter.labels else labels
        exposition.add(counter.family, value // counter.divisor, own)
    start = len(COUNTERS)
    for family, bounds, divisor, _ in DISTRIBUTIONS:
        end = start + len(bounds) + 1
        exposition.add_histogram(family, bounds, row[start:end], row[end] / divisor, labels)
        start = end + 1


def _sizes(statistics: Statistics) -> list[int]:
    """How many runs had how many samples, and all samples that ran."""
    found, total = [0] * (len(BATCH_BOUNDS) + 1), 0
    for size, runs in statistics.batches.items():
        place = next((place for place, bound in enumerate(BATCH_BOUNDS) if size <= bound), -1)
        found[place] += runs.count
        total += size * runs.count
    return [*found, total]
