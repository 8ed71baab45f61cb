"""Benchmarks: interleaved measurement, intervals, and the environment they hold for."""
