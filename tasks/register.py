"""Step: give the winner a version number, once per optimization."""

import asyncio
from pathlib import Path

from registry.ledger.ledger import Ledger
from registry.records.benchmark import Metric
from registry.records.gate import GateDecision
from registry.records.model import ArtifactRef, ModelVersion, VersionDraft
from registry.records.optimization import CandidateResult, OptimizationRequest, OptimizationResult
from registry.store.base import ArtifactStore, ModelStore
from tasks.bench.environment import tool_versions
from tasks.step import step


def metrics_of(winner: CandidateResult) -> tuple[Metric, ...]:
    """The winner's figures under the names that the registry shows."""
    found = [Metric(name="score", interval=winner.score)] if winner.score else []
    for figures in winner.benchmark.latency if winner.benchmark else ():
        suffix = f"batch_{figures.batch_size}"
        found += [
            Metric(name=f"latency_p50_ms_{suffix}", interval=figures.latency_p50_ms),
            Metric(name=f"latency_p99_ms_{suffix}", interval=figures.latency_p99_ms),
            Metric(name=f"throughput_per_s_{suffix}", interval=figures.throughput_per_s),
        ]
    return tuple(found)


def draft_version(
    request: OptimizationRequest,
    result: OptimizationResult,
    *,
    gate: GateDecision,
    parent_version: int | None,
    report: str,
) -> VersionDraft:
    """Describe the winner of a search as a version without a number.

    Raises:
        ValueError: the search has no winner.
    """
    winner = result.chosen
    if winner is None or winner.artifact is None or winner.signature is None:
        raise ValueError("a search without a winner makes no version")
    return VersionDraft(
        model=request.model,
        optimization_id=request.id,
        source=result.source,
        artifact=winner.artifact,
        runtime=winner.candidate.runtime,
        signature=winner.signature,
        recipe=winner.candidate.recipe,
        batch_invariant=bool(winner.batch_invariant),
        tool_versions=tool_versions(),
        environment=result.environment,
        metrics=metrics_of(winner),
        gate=gate,
        evaluation_set=request.evaluation,
        calibration_set=request.calibration,
        parent_version=parent_version,
        report=report,
    )


@step("keep artifact")
async def keep_artifact(folder: Path, expected: ArtifactRef, artifacts: ArtifactStore) -> None:
    """Put the winner's artifact into the artifact store.

    Raises:
        ValueError: the folder is not the artifact that was measured.
    """
    digest = await asyncio.to_thread(artifacts.put, folder)
    if digest != expected.sha256:
        raise ValueError(f"{folder} has the digest {digest}, but {expected.sha256} was measured")


@step("register")
async def register(draft: VersionDraft, store: ModelStore, ledger: Ledger) -> ModelVersion:
    """Register the draft and admit it to the ledger; again with the same optimization is a no-op."""
    version = await asyncio.to_thread(store.register, draft)
    await asyncio.to_thread(ledger.admit, version.model, version.served)
    return version
