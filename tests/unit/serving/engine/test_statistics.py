"""Counters of a version: a duration lies in the bucket whose bound it does not exceed."""

from serving.engine.statistics import BACKEND, BOUNDS_NS, REJECTED, Histogram, Statistics


def test_a_duration_lies_in_the_bucket_whose_bound_it_does_not_exceed() -> None:
    histogram = Histogram()
    assert histogram.buckets == []
    for ns in (0, BOUNDS_NS[0], BOUNDS_NS[0] + 1, BOUNDS_NS[-1], BOUNDS_NS[-1] + 1):
        histogram.add(ns)
    assert histogram.buckets == [2, 1, *[0] * (len(BOUNDS_NS) - 3), 1, 1]
    assert (histogram.count, histogram.ns) == (5, 2 * BOUNDS_NS[0] + 2 * BOUNDS_NS[-1] + 2)


def test_failures_are_counted_by_reason_and_in_all() -> None:
    statistics = Statistics()
    assert not statistics.used
    for reason in (BACKEND, REJECTED, BACKEND):
        statistics.failed(reason, 5)
    assert (statistics.failures, statistics.fail.count, statistics.fail.ns) == ({BACKEND: 2, REJECTED: 1}, 3, 15)
    assert statistics.used
