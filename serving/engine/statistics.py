"""What a version has done since it was first named: counts and nanoseconds, as Triton's statistics extension has them.

Source: https://github.com/triton-inference-server/server, docs/protocol/extension_statistics.md.
"""

import time
from bisect import bisect_left
from dataclasses import dataclass, field

from serving.engine.account import Account

BOUNDS_NS = tuple(
    int(seconds * 1e9)
    for seconds in (1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 1e-2, 2.5e-2, 5e-2, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
)
"""Upper bounds of a histogram's buckets; one bucket more takes what is above."""

BACKEND = "BACKEND"
"""The session failed."""
REJECTED = "REJECTED"
"""Turned away: too much waits, its time was over, the version cannot be loaded, or the model does not take it."""
CANCELED = "CANCELED"
"""Whoever asked has gone."""
FAILURES = (BACKEND, REJECTED, CANCELED)
"""Why a request that reached its version was not answered, as Triton names the reasons."""


@dataclass(slots=True)
class Duration:
    """How often something happened and how long it took in all."""

    count: int = 0
    ns: int = 0

    def add(self, ns: int) -> None:
        """Count one more."""
        self.count += 1
        self.ns += ns

    def add_each(self, ns: int, times: int) -> None:
        """Count several more of one duration."""
        self.count += times
        self.ns += times * ns


@dataclass(slots=True)
class Histogram(Duration):
    """Durations, and how many of them lie between two bounds; the buckets are made with the first."""

    buckets: list[int] = field(default_factory=list)

    def add(self, ns: int) -> None:
        """Count one more."""
        self.count += 1
        self.ns += ns
        if not self.buckets:
            self.buckets = [0] * (len(BOUNDS_NS) + 1)
        self.buckets[bisect_left(BOUNDS_NS, ns)] += 1


@dataclass(slots=True)
class Timing:
    """Where the time of one request went that did not run at once."""

    queue_ns: int = 0
    compute_ns: int = 0


@dataclass(slots=True)
class Statistics:
    """The counters of one version in one worker; changed on the event loop only."""

    success: Histogram = field(default_factory=Histogram)
    """Requests answered, from when their inputs were read until their outputs were there."""
    fail: Duration = field(default_factory=Duration)
    failures: dict[str, int] = field(default_factory=dict)
    """Requests that failed, by reason."""
    queue: Histogram = field(default_factory=Histogram)
    """Requests in the queue."""
    compute: Duration = field(default_factory=Duration)
    """Requests in a run, each with the whole time of its run."""
    batches: dict[int, Duration] = field(default_factory=dict)
    """Runs, by the number of samples."""
    cache_hit: Duration = field(default_factory=Duration)
    """Requests answered from the response cache, with the time to find the answer; they count as success too."""
    cache_miss: Duration = field(default_factory=Duration)
    """Requests not found in the response cache, with the time to look and to keep the answer."""
    inferences: int = 0
    """Samples in computed answers."""
    last_inference_ms: int = 0
    """Unix time of the last answer, in milliseconds."""
    account: Account = field(default_factory=Account, repr=False)
    """Of the model, which its versions share."""

    @property
    def executions(self) -> int:
        """Runs of the session."""
        return sum(batch.count for batch in self.batches.values())

    @property
    def used(self) -> bool:
        """True if anything was ever asked of the version."""
        return bool(self.success.count or self.fail.count or self.queue.count)

    def ran(self, rows: int, ns: int) -> None:
        """Count one run."""
        batch = self.batches.get(rows)
        if batch is None:
            batch = self.batches[rows] = Duration()
        batch.add(ns)
        self.account.compute_ns += ns

    def answered(self, rows: int, ns: int) -> None:
        """Count one answer."""
        self.success.add(ns)
        self.account.requests += 1
        self.inferences += rows
        self.last_inference_ms = time.time_ns() // 1_000_000

    def recalled(self, ns: int) -> None:
        """Count one answer from the response cache."""
        self.success.add(ns)
        self.account.requests += 1
        self.cache_hit.add(ns)
        self.last_inference_ms = time.time_ns() // 1_000_000

    def failed(self, reason: str, ns: int) -> None:
        """Count one request that was not answered."""
        self.fail.add(ns)
        self.account.requests += 1
        self.account.failed += 1
        self.failures[reason] = self.failures.get(reason, 0) + 1
