"""Measure artifacts against each other in one child process, through the runtimes that serve them."""

from math import inf
from pathlib import Path

import numpy as np
from pydantic import Field

from registry.errors import InputError
from registry.records.base import Record
from registry.records.benchmark import Benchmark
from registry.records.model import ArtifactFormat, PluginConfig, Signature
from serving.runtime import Arrays
from tasks.bench.compare import SpeedDifference
from tasks.bench.measure import Plan
from tasks.optimizer.dataset import Dataset, save_dataset
from tasks.optimizer.isolation import Limits, ask_child

INPUTS_FILE = "inputs.npz"
TURN_FILE = "turn"

SAMPLES = 256
"""Samples handed to the child at least, to draw batches from."""

LOAD_TIMEOUT_S = 120.0
"""For one artifact to load and to run its batches once."""


class BenchItem(Record):
    """One artifact to measure and the runtime that would serve it."""

    id: str
    folder: Path
    artifact: ArtifactFormat
    runtime: PluginConfig
    signature: Signature


class BenchJob(Record):
    """What the child is told."""

    items: tuple[BenchItem, ...]
    inputs: Path
    plan: Plan


class BenchmarkRun(Record):
    """What came of one benchmark; each item is in ``figures`` or in ``failures``."""

    figures: dict[str, Benchmark] = Field(default_factory=dict)
    failures: dict[str, str] = Field(default_factory=dict, description="Why an item could not be measured, by id.")
    differences: dict[str, tuple[SpeedDifference, ...]] = Field(
        default_factory=dict, description="Beside the first item that could be measured, by id; one a batch size."
    )


def benchmark(
    items: tuple[BenchItem, ...], inputs: Arrays, plan: Plan, workspace: Path, timeout_s: float = inf
) -> BenchmarkRun:
    """Measure artifacts of one signature in turns, in one child process.

    An item that ends the child is recorded with its reason, and the others are measured again without it.

    Args:
        items: the baseline first: differences are told against it.
        inputs: samples to draw from, axis 0 the samples.
        plan: batch sizes, threads, time and precision.
        workspace: a folder of this benchmark's own; holds the logs.
        timeout_s: for one child; never more than what loading and measuring may take.

    Raises:
        InputError: two items have one id.
    """
    if len({item.id for item in items}) < len(items):
        raise InputError("two items to measure have the same id; give each its own")
    workspace.mkdir(parents=True, exist_ok=True)
    inputs_file = workspace.absolute() / INPUTS_FILE
    save_dataset(Dataset(_some_samples(inputs, plan)), inputs_file)
    remaining, failures = list(items), dict[str, str]()
    while remaining:
        folder = workspace / f"run-{len(failures) + 1}"
        (folder / TURN_FILE).unlink(missing_ok=True)
        job = BenchJob(items=tuple(remaining), inputs=inputs_file, plan=plan)
        limits = _limits(plan, len(remaining), timeout_s)
        answered = ask_child("tasks.bench.child", job.model_dump(mode="json"), workspace=folder, limits=limits)
        if answered.value is not None:
            run = BenchmarkRun.model_validate(answered.value)
            return run.model_copy(update={"failures": failures | run.failures})
        culprits = _running(folder / TURN_FILE, remaining)
        failures.update({item.id: answered.failure for item in culprits})
        remaining = [item for item in remaining if item not in culprits]
    return BenchmarkRun(failures=failures)


def _some_samples(inputs: Arrays, plan: Plan) -> Arrays:
    total = len(next(iter(inputs.values())))
    wanted = min(total, max(SAMPLES, *plan.batch_sizes))
    rows = np.random.default_rng(plan.seed).choice(total, size=wanted, replace=False)
    return {name: array[rows] for name, array in inputs.items()}


def _limits(plan: Plan, items: int, timeout_s: float) -> Limits:
    enough_s = 60 + 3 * plan.seconds_cap + 2 * LOAD_TIMEOUT_S * items
    return Limits(timeout_s=min(timeout_s, enough_s), memory_mib=plan.memory_mib, threads=plan.threads, quiet=True)


def _running(turn: Path, items: list[BenchItem]) -> list[BenchItem]:
    """The item whose turn it was when the child ended; all items if it ended before the first turn."""
    running = turn.read_bytes() if turn.is_file() else b""
    if not running or int.from_bytes(running, "little") == 0:
        return items
    return [items[int.from_bytes(running, "little") - 1]]
