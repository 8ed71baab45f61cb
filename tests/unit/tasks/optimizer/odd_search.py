"""A tiny source, a made-up stopwatch and one search over odd passes, for the tests of the search."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from registry.errors import CandidateError
from registry.records.benchmark import Benchmark, Interval, LatencyFigures
from registry.records.model import ArtifactFormat, Datatype, Signature, TensorSpec
from registry.records.optimization import CandidateResult, OptimizationConfig, OptimizationResult
from serving.runtime import Arrays
from tasks.bench.measure import Plan
from tasks.bench.process import BenchItem, BenchmarkRun
from tasks.optimizer.base import Artifact
from tasks.optimizer.catalogue import CATALOGUE_CHILD
from tasks.optimizer.catalogue_child import describe_plugins
from tasks.optimizer.child import run_candidate
from tasks.optimizer.dataset import Dataset
from tasks.optimizer.isolation import Limits
from tasks.optimizer.request import SearchRequest
from tasks.optimizer.search import optimize

SPEEDS_MS = {"quick": 0.5, "slow": 2.0}
BENCHMARKED: list[list[str]] = []
"""The items of every benchmark since the last search began."""


@dataclass
class Run:
    """One search with everything that was seen of it."""

    request: SearchRequest
    events: list[CandidateResult]
    result: OptimizationResult
    benchmarked: list[list[str]]

    def of(self, name: str) -> CandidateResult:
        return next(one for one in self.result.candidates if name in {step.name for step in one.candidate.recipe})


def made_up_benchmark(
    items: tuple[BenchItem, ...], inputs: Arrays, plan: Plan, workspace: Path, timeout_s: float
) -> BenchmarkRun:
    """Figures that follow from a file in the artifact's folder; everything else takes 1 ms."""
    BENCHMARKED.append([item.id for item in items])
    return BenchmarkRun(figures={item.id: figures(item, plan) for item in items})


def figures(item: BenchItem, plan: Plan) -> Benchmark:
    p50 = next((speed for name, speed in SPEEDS_MS.items() if (item.folder / name).exists()), 1.0)

    def around(value: float) -> Interval:
        return Interval(estimate=value, low=0.99 * value, high=1.01 * value)

    latency = tuple(
        LatencyFigures(
            batch_size=size,
            calls=10,
            latency_p50_ms=around(p50),
            latency_p99_ms=around(p50),
            throughput_per_s=around(1000 * size / p50),
        )
        for size in plan.batch_sizes
    )
    return Benchmark(threads=1, latency=latency, peak_memory_mib=1.0, size_bytes=100)


def source(folder: Path) -> Artifact:
    weight = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
    x = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["n", 4])
    y = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["n", 3])
    node = onnx.helper.make_node("MatMul", ["x", "w"], ["y"])
    graph = onnx.helper.make_graph([node], "g", [x], [y], [onnx.numpy_helper.from_array(weight, "w")])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 20)], ir_version=10)
    folder.mkdir(parents=True)
    onnx.save(model, str(folder / "model.onnx"))
    signature = Signature(
        inputs=(TensorSpec(name="x", datatype=Datatype.FP32, shape=(None, 4)),),
        outputs=(TensorSpec(name="y", datatype=Datatype.FP32, shape=(None, 3)),),
    )
    return Artifact(folder, ArtifactFormat.ONNX, signature)


def search(request: SearchRequest) -> Run:
    BENCHMARKED.clear()
    events: list[CandidateResult] = []
    return Run(request, events, optimize(request, events.append), list(BENCHMARKED))


def request(folder: Path, config: OptimizationConfig) -> SearchRequest:
    """A request over 400 samples without labels."""
    inputs = np.random.default_rng(1).normal(size=(400, 4)).astype(np.float32)
    return SearchRequest(
        source=source(folder / "source"),
        evaluation=Dataset({"x": inputs}),
        evaluation_digest="e" * 64,
        calibration=None,
        calibration_digest=None,
        config=config,
        out=folder / "out",
        cache=folder / "cache",
    )


def run_here(module: str, job: Mapping[str, Any], *, workspace: Path, limits: Limits) -> dict[str, Any]:
    """Do a child's work in this process, for passes that do not end it."""
    work = describe_plugins if module == CATALOGUE_CHILD else run_candidate
    try:
        return work(dict(job), workspace)
    except Exception as error:
        raise CandidateError(f"{type(error).__name__}: {error}") from error
