"""What requests cost."""

from registry.records.benchmark import Benchmark

_SECONDS_AN_HOUR = 3600
_MILLION = 1_000_000


def cost_per_million(benchmark: Benchmark, price_per_core_hour: float) -> float:
    """Return the price of a million requests at the smallest batch size, one call at a time.

    Price of a core-hour x cores x seconds a call (p50) / 3600 x 1,000,000; a request is a call.
    """
    smallest = min(benchmark.latency, key=lambda figures: figures.batch_size)
    core_seconds = benchmark.threads * smallest.latency_p50_ms.estimate / 1000
    return price_per_core_hour * core_seconds / _SECONDS_AN_HOUR * _MILLION
