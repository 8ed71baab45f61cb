"""What a version has done since it was first named: counts and nanoseconds, as Triton's statistics extension has them.

Source: https://github.com/triton-inference-server/server, docs/protocol/extension_statistics.md.
"""

import time
from dataclasses import dataclass, field


@dataclass(slots=True)
class Duration:
    """How often something happened and how long it took in all."""

    count: int = 0
    ns: int = 0

    def add(self, ns: int) -> None:
        """Count one more."""
        self.count += 1
        self.ns += ns


@dataclass(slots=True)
class Statistics:
    """The counters of one version in one worker; changed on the event loop only."""

    success: Duration = field(default_factory=Duration)
    """Requests answered, from when their inputs were read until their outputs were there."""
    fail: Duration = field(default_factory=Duration)
    queue: Duration = field(default_factory=Duration)
    """Requests in the queue."""
    compute: Duration = field(default_factory=Duration)
    """Requests in a run, each with the whole time of its run."""
    batches: dict[int, Duration] = field(default_factory=dict)
    """Runs, by the number of samples."""
    inferences: int = 0
    """Samples in answered requests."""
    last_inference_ms: int = 0
    """Unix time of the last answer, in milliseconds."""

    @property
    def executions(self) -> int:
        """Runs of the session."""
        return sum(batch.count for batch in self.batches.values())

    def ran(self, rows: int, ns: int) -> None:
        """Count one run."""
        batch = self.batches.get(rows)
        if batch is None:
            batch = self.batches[rows] = Duration()
        batch.add(ns)

    def answered(self, rows: int, ns: int) -> None:
        """Count one answer."""
        self.success.add(ns)
        self.inferences += rows
        self.last_inference_ms = time.time_ns() // 1_000_000
