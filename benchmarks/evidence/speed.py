"""What the benchmark calls different: an artifact beside itself, and the Pareto front of the same candidates again."""

import statistics
from collections.abc import Iterable, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

from benchmarks.evidence.real import FLOAT, INT8
from benchmarks.evidence.scale import Scale
from benchmarks.evidence.simulations import Found
from benchmarks.evidence.subjects import Made, Subject
from benchmarks.goals import Goal
from registry.records.benchmark import Benchmark
from registry.records.gate import GateDecision, RuleOutcome, Verdict
from registry.records.optimization import CandidateResult, CandidateStatus
from tasks.bench.compare import Speed, SpeedDifference
from tasks.bench.measure import Plan
from tasks.bench.process import BenchItem, benchmark
from tasks.gates.score import judge, score_interval
from tasks.optimizer.evaluate import predict_all
from tasks.optimizer.pareto import front

ALPHA = 0.02
BATCH_SIZES = (1, 8)
_PASSED = GateDecision(outcomes=(RuleOutcome(rule="fidelity", verdict=Verdict.PASS, reason="taken as read here"),))


def made(subject: Subject, scale: Scale) -> list[Made]:
    """The candidates that are measured: those that can be made here."""
    asked = [subject.make((), "torch_export"), subject.make(FLOAT, "onnxruntime"), subject.make(INT8, "onnxruntime")]
    if scale.all_candidates:
        asked += [
            subject.make(FLOAT, "openvino", precision="f32"),
            subject.make(FLOAT, "openvino", precision="bf16"),
            subject.make(INT8, "openvino", precision="f32"),
        ]
    return [one for one in asked if one is not None]


def a_a(subject: Subject, candidates: Sequence[Made], scale: Scale, folder: Path) -> Found:
    """Measure artifacts beside themselves, each run in a process of its own, and count what is called different."""
    runs: list[dict[str, Any]] = []
    for number in range(scale.a_a_runs):
        one = candidates[number % len(candidates)]
        plan = Plan(batch_sizes=BATCH_SIZES, seconds_cap=scale.a_a_seconds, seed=number)
        run = benchmark((_item(one, "a"), _item(one, "b")), subject.inputs, plan, folder / f"a-a-{number}")
        differences = run.differences["b"]
        runs.append(
            {
                "candidate": one.name,
                "different": any(_called(each) for each in differences),
                "ratios": [each.ratio.model_dump() for each in differences],
                "p_values": [each.p_value for each in differences],
            }
        )
    called = sum(run["different"] for run in runs)
    return [
        Goal(
            name="runs that call an artifact different from itself",
            measured=called,
            relation="at most",
            goal=scale.a_a_allowed,
            unit="runs",
            detail=f"of {len(runs)} at alpha {ALPHA}, {len(candidates)} artifacts, at batch 1 or 8",
        )
    ], {"a/a": {"runs": runs, "p at most alpha": sum(min(run["p_values"]) <= ALPHA for run in runs)}}


def fronts(subject: Subject, candidates: Sequence[Made], scale: Scale, folder: Path) -> Found:
    """Measure the same candidates again and again and compare which of them are on the front."""
    scored = {one.candidate.id: _scored(one, subject) for one in candidates}
    items = tuple(_item(one, one.candidate.id) for one in candidates)
    runs = []
    for number in range(scale.fronts):
        plan = Plan(batch_sizes=BATCH_SIZES, seconds_cap=scale.front_seconds, seed=number)
        run = benchmark(items, subject.inputs, plan, folder / f"front-{number}")
        runs.append([_measured(scored[name], figures) for name, figures in run.figures.items()])
    fronts_by_set = {
        " | ".join(sorted(_names(results))): [
            front([one for one in run if one.candidate.id in {each.candidate.id for each in results}]) for run in runs
        ]
        for size in range(2, len(candidates) + 1)
        for results in combinations(runs[0], size)
    }
    indices = {name: _mean_jaccard(found) for name, found in fronts_by_set.items()}
    return [
        Goal(
            name="Jaccard index of the fronts of repeated measurements, the lowest of any set of these candidates",
            measured=min(indices.values()),
            relation="at least",
            goal=0.8,
            detail=f"the mean over pairs of {len(runs)} repeats; {len(indices)} sets of {len(candidates)} candidates",
        )
    ], {
        "fronts": {
            "sets below 1": {name: index for name, index in indices.items() if index < 1},
            "of all": [sorted(_names([one for one in run if one.candidate.id in front(run)])) for run in runs],
        }
    }


def _names(results: Iterable[CandidateResult]) -> list[str]:
    return [one.candidate.label for one in results]


def _mean_jaccard(found: Sequence[frozenset[str]]) -> float:
    return statistics.mean(len(one & other) / len(one | other) for one, other in combinations(found, 2))


def _called(difference: SpeedDifference) -> bool:
    # The verdict was taken at the benchmark's own alpha, which is larger.
    return difference.speed is not Speed.CANNOT_TELL and difference.p_value <= ALPHA


def _item(one: Made, name: str) -> BenchItem:
    return BenchItem(
        id=name,
        folder=one.artifact.folder,
        artifact=one.artifact.format,
        runtime=one.candidate.runtime,
        signature=one.artifact.signature,
    )


def _scored(one: Made, subject: Subject) -> CandidateResult:
    session = one.load()
    try:
        outputs = predict_all(session, subject.inputs)
    finally:
        session.close()
    right = judge("top1", outputs, outputs, subject.labels).candidate
    return CandidateResult(
        candidate=one.candidate, status=CandidateStatus.MEASURED, score=score_interval(right), gate=_PASSED
    )


def _measured(result: CandidateResult, figures: Benchmark) -> CandidateResult:
    return result.model_copy(update={"benchmark": figures})
