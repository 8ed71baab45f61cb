"""Measurements: intervals, benchmarks, and the environment that they hold for."""

from typing import Self

from pydantic import Field, model_validator

from registry.records.base import Record


class Interval(Record):
    """An estimate with its confidence interval."""

    estimate: float
    low: float
    high: float
    confidence: float = Field(default=0.95, gt=0, lt=1)

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if not self.low <= self.estimate <= self.high:
            raise ValueError(f"an interval needs low <= estimate <= high, got {self.low}, {self.estimate}, {self.high}")
        return self


class Metric(Record):
    """A named figure with its interval, such as ``latency_p50_ms`` or ``accuracy``."""

    name: str
    interval: Interval


class LatencyFigures(Record):
    """What one candidate did at one batch size: latency per call and samples per second."""

    batch_size: int = Field(ge=1)
    calls: int = Field(ge=1, description="Timed calls behind the figures.")
    latency_p50_ms: Interval
    latency_p99_ms: Interval
    throughput_per_s: Interval = Field(
        description="Samples a second, one call at a time, the slowest tenth of the calls left out."
    )
    energy_mj: Interval | None = Field(
        default=None, description="Millijoules of the whole processor a call; None where the machine does not tell."
    )


class Benchmark(Record):
    """The figures of one candidate from an interleaved measurement."""

    threads: int = Field(ge=1)
    latency: tuple[LatencyFigures, ...] = Field(min_length=1)
    peak_memory_mib: float = Field(ge=0, description="Resident memory added by loading and running the session.")
    size_bytes: int = Field(ge=0, description="Bytes of the artifact on disk.")

    def at_batch(self, batch_size: int) -> LatencyFigures:
        """Return the figures at one batch size.

        Raises:
            KeyError: this batch size was not measured.
        """
        for figures in self.latency:
            if figures.batch_size == batch_size:
                return figures
        raise KeyError(f"batch size {batch_size} was not measured")


class Environment(Record):
    """The machine and the software that figures hold for."""

    cpu_model: str
    cpu_count: int = Field(ge=1)
    cpu_flags: tuple[str, ...] = Field(description="The instruction-set flags that change speed, sorted.")
    memory_mib: int = Field(ge=1)
    gpu: str | None = None
    system: str = Field(description="Kernel name, release and architecture.")
    python: str
    libraries: dict[str, str] = Field(description="Versions of the libraries that build and run candidates.")
    energy: str = Field(default="", description="Where energy is read, or why it is not measured.")
