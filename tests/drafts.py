"""Records to register, admit and release in tests."""

from datetime import UTC, datetime

from registry.records.benchmark import Environment, Interval, Metric
from registry.records.change import Change, Step
from registry.records.gate import GateDecision, RuleOutcome, Verdict
from registry.records.model import (
    ArtifactFormat,
    ArtifactRef,
    Datatype,
    PluginConfig,
    ServedVersion,
    Signature,
    TensorSpec,
    VersionDraft,
)
from registry.records.release import OptimizationState, OptimizationStatus

SIGNATURE = Signature(
    inputs=(TensorSpec(name="x", datatype=Datatype.FP32, shape=(None, 4)),),
    outputs=(TensorSpec(name="y", datatype=Datatype.FP32, shape=(None, 2)),),
)
ARTIFACT = ArtifactRef(sha256="a" * 64, format=ArtifactFormat.ONNX, size_bytes=12)


def served(version: int) -> ServedVersion:
    """A version that may serve; each has an artifact of its own."""
    return ServedVersion(
        version=version,
        artifact=ArtifactRef(sha256=f"{version:064x}", format=ArtifactFormat.ONNX, size_bytes=version),
        runtime=PluginConfig(name="onnxruntime", knobs={"threads": 2}),
        signature=SIGNATURE,
        batch_invariant=False,
    )


def change(
    step: Step,
    model: str = "digits",
    *,
    actor: str = "ana",
    reason: str = "",
    expected_generation: int | None = None,
) -> Change:
    """One step of a route, asked for by somebody."""
    return Change(model=model, step=step, actor=actor, reason=reason, expected_generation=expected_generation)


def draft(model: str, optimization_id: str, *, artifact: ArtifactRef = ARTIFACT, libraries: int = 1) -> VersionDraft:
    """A draft with something in every field; ``libraries`` makes its record as large as one likes."""
    return VersionDraft(
        model=model,
        optimization_id=optimization_id,
        source=ArtifactRef(sha256="5" * 64, format=ArtifactFormat.EXPORTED_PROGRAM, size_bytes=34),
        artifact=artifact,
        runtime=PluginConfig(name="onnxruntime", knobs={"threads": 1}),
        signature=SIGNATURE,
        recipe=(
            PluginConfig(name="export_onnx"),
            PluginConfig(name="quantize_static_int8", knobs={"method": "minmax"}),
        ),
        batch_invariant=True,
        tool_versions={"torch": "2.13.0"},
        environment=Environment(
            cpu_model="any",
            cpu_count=2,
            cpu_flags=("avx2",),
            memory_mib=1024,
            system="Linux",
            python="3.11",
            libraries={f"library-{index}": "1.0" for index in range(libraries)},
        ),
        metrics=(Metric(name="latency_p50_ms_batch_1", interval=Interval(estimate=1 / 3, low=0.1 + 0.2, high=0.5)),),
        gate=GateDecision(outcomes=(RuleOutcome(rule="fidelity", verdict=Verdict.PASS, reason="3 | 4\nlost"),)),
        evaluation_set="e" * 64,
        calibration_set="c" * 64,
        parent_version=1,
        report="f" * 64,
    )


def optimization(optimization_id: str, model: str, state: OptimizationState) -> OptimizationStatus:
    """What is known of an optimization in a state."""
    return OptimizationStatus(
        id=optimization_id,
        model=model,
        state=state,
        source="5" * 64,
        evaluation_set="e" * 64,
        created_at=datetime(2026, 11, 22, 4, 5, 6, 789, tzinfo=UTC),
        updated_at=datetime.now(UTC),
    )
