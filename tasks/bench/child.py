"""The child process of a benchmark: load every item, let them take turns, answer with the figures."""

import mmap
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from registry.errors import BurnishError
from registry.records.benchmark import Benchmark
from serving.runtime import Arrays, Runtime, Session, build_runtime
from tasks.bench.compare import SpeedDifference, compare
from tasks.bench.intervals import latency_figures
from tasks.bench.measure import Plan, Series, interleaved, measured_batch_sizes
from tasks.bench.memory import peak_memory_mib
from tasks.bench.process import LOAD_TIMEOUT_S, TURN_FILE, BenchItem, BenchJob, BenchmarkRun
from tasks.optimizer.evaluate import load_arrays
from tasks.optimizer.isolation import answer

NOBODY = ""
"""Whose turn it is when every session has had its last."""


def run_benchmark(job_json: dict[str, Any], workspace: Path) -> dict[str, Any]:
    """Measure the items of a ``BenchJob``; the value is a ``BenchmarkRun``."""
    job = BenchJob.model_validate(job_json)
    _pin(job.plan.threads)
    inputs = load_arrays(job.inputs)
    memory, failures = _peak_memory(job, inputs, workspace)
    items = [item for item in job.items if item.id in memory]
    if not items:
        return BenchmarkRun(failures=failures).model_dump(mode="json")
    on_turn = _turn_file(workspace / TURN_FILE, [item.id for item in job.items])
    sessions: dict[str, Session] = {}
    for item in items:
        on_turn(item.id)
        sessions[item.id] = _load(build_runtime(item.runtime), item)
    series = interleaved(sessions, inputs, job.plan, on_turn)
    on_turn(NOBODY)
    run = BenchmarkRun(
        figures={item.id: _figures(item, series, memory[item.id], job.plan) for item in items},
        failures=failures,
        differences={item.id: _differences(items[0], item, series, job.plan) for item in items[1:]},
    )
    return run.model_dump(mode="json")


def _pin(threads: int) -> None:
    """Keep this process and all its threads on as many processors as a run may use."""
    allowed = sorted(os.sched_getaffinity(0))
    # The last ones: the first serves most of the system's interrupts.
    os.sched_setaffinity(0, allowed[-threads:])


def _load(runtime: Runtime, item: BenchItem) -> Session:
    return runtime.load(item.folder, item.artifact, item.signature)


def _peak_memory(job: BenchJob, inputs: Arrays, workspace: Path) -> tuple[dict[str, float], dict[str, str]]:
    """Load and run every item alone, in a fork: its peak memory in MiB, or why it cannot be run."""
    memory: dict[str, float] = {}
    runtimes: dict[str, Runtime] = {}
    failures: dict[str, str] = {}
    for item in job.items:
        # Libraries are imported before the first fork, so that no item is charged for them.
        try:
            runtimes[item.id] = build_runtime(item.runtime)
        except BurnishError as error:
            failures[item.id] = str(error)
    for number, item in enumerate(item for item in job.items if item.id in runtimes):
        work = _load_and_run(runtimes[item.id], item, inputs, job.plan)
        try:
            memory[item.id] = peak_memory_mib(work, workspace / f"load-{number}.txt", timeout_s=LOAD_TIMEOUT_S)
        except BurnishError as error:
            failures[item.id] = str(error)
    return memory, failures


def _load_and_run(runtime: Runtime, item: BenchItem, inputs: Arrays, plan: Plan) -> Callable[[], None]:
    def work() -> None:
        session = _load(runtime, item)
        total = len(next(iter(inputs.values())))
        for size in measured_batch_sizes(item.signature, plan.batch_sizes):
            session.run({name: array[np.arange(size) % total] for name, array in inputs.items()})

    return work


def _turn_file(path: Path, ids: list[str]) -> Callable[[str], None]:
    """Return a function that notes whose turn it is where the parent finds it, even if this process dies."""
    path.write_bytes(bytes(8))
    with path.open("r+b") as stream:
        # A store to mapped memory: no system call between the turns.
        mapped = mmap.mmap(stream.fileno(), 8)
    numbers = {name: number.to_bytes(8, "little") for number, name in enumerate([NOBODY, *ids])}

    def note(name: str) -> None:
        mapped[:] = numbers[name]

    return note


def _figures(item: BenchItem, series: tuple[Series, ...], memory_mib: float, plan: Plan) -> Benchmark:
    return Benchmark(
        threads=plan.threads,
        latency=tuple(
            latency_figures(one.batch_size, one.latency_ms[item.id], one.energy_mj.get(item.id), seed=plan.seed)
            for one in series
        ),
        peak_memory_mib=memory_mib,
        size_bytes=sum(path.stat().st_size for path in item.folder.rglob("*") if path.is_file()),
    )


def _differences(
    baseline: BenchItem, item: BenchItem, series: tuple[Series, ...], plan: Plan
) -> tuple[SpeedDifference, ...]:
    return tuple(
        compare(one.latency_ms[baseline.id], one.latency_ms[item.id], batch_size=one.batch_size, seed=plan.seed)
        for one in series
    )


if __name__ == "__main__":
    answer(run_benchmark)
