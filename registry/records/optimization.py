"""An optimization: what is asked, each candidate, and what came of it."""

from enum import StrEnum
from typing import Annotated
from uuid import uuid4

from pydantic import Field

from registry.records.base import Digest, Record
from registry.records.benchmark import Benchmark, Environment, Interval
from registry.records.gate import GateDecision, PairedTest, SliceResult
from registry.records.model import ArtifactRef, PluginConfig, Signature
from registry.records.tenant import QualifiedName

_MOST = 2**31 - 1
"""Numbers of a configuration go through servers that read no more than 64 bits."""


class Policy(StrEnum):
    """The named rules that pick one candidate from the Pareto front."""

    MIN_LATENCY = "min_latency"
    MAX_THROUGHPUT = "max_throughput"
    MAX_THROUGHPUT_UNDER_LATENCY = "max_throughput_under_latency"
    MIN_SIZE = "min_size"


class OptimizationConfig(Record):
    """What an optimization shall do; hashed into candidate ids. Read from a YAML or TOML file."""

    policy: Policy = Policy.MIN_LATENCY
    latency_limit_ms: float | None = Field(default=None, gt=0, description="For max_throughput_under_latency.")
    budget_minutes: float = Field(default=10.0, gt=0)
    batch_sizes: tuple[Annotated[int, Field(ge=1, le=_MOST)], ...] = Field(default=(1, 8), min_length=1)
    threads: int = Field(default=1, ge=1, le=_MOST)
    metric: str = Field(
        default="auto",
        min_length=1,
        description="auto, top1, cosine, error, ranking, or the name of an entry point in the group burnish.metrics.",
    )
    margin: float = Field(
        default=0.01, gt=0, lt=1, description="Non-inferiority margin as a share of samples, or of the score."
    )
    alpha: float = Field(default=0.05, gt=0, lt=1)
    passes: tuple[str, ...] | None = Field(default=None, description="Only these passes; () is the source as it is.")
    runtimes: tuple[str, ...] | None = Field(default=None, description="Only these runtimes.")
    candidate_timeout_s: float = Field(default=180.0, gt=0)
    candidate_memory_mib: int = Field(default=8192, ge=256, le=_MOST)
    price_per_core_hour: float | None = Field(
        default=None, gt=0, description="In any currency; tells the cost of a million requests."
    )
    seed: int = Field(default=0, ge=0, le=2**32 - 1)


class OptimizationRequest(Record):
    """What the flow ``optimize`` is asked to do; sets and source are digests in the artifact store."""

    id: str = Field(default_factory=lambda: uuid4().hex, pattern=r"^[0-9a-f]{32}$")
    model: QualifiedName
    source: Digest = Field(description="An upload: model.pt2, model.onnx or model.zip.")
    evaluation: Digest = Field(description="An upload: evaluation.npz or evaluation.parquet.")
    calibration: Digest | None = Field(default=None, description="An upload: calibration.npz or calibration.parquet.")
    config: OptimizationConfig = OptimizationConfig()
    release: bool = Field(default=True, description="Promote the winner; otherwise it is registered only.")


class CandidateStatus(StrEnum):
    """Where a candidate stands or ended."""

    PENDING = "pending"
    BUILT = "built"
    FAILED = "failed"  # crash, time-out, out of memory, error in a pass: see reason and log
    SKIPPED = "skipped"  # could not run here or the budget was spent: see reason
    REFUSED = "refused"  # a gate rule said no: see gate
    MEASURED = "measured"


class NumericalComparison(Record):
    """How far a candidate's outputs are from the source model's on the evaluation set."""

    output: str = Field(description="The output with the largest difference.")
    sample: int = Field(ge=0, description="The index of the worst sample.")
    max_abs_difference: float = Field(ge=0)
    max_rel_difference: float = Field(ge=0)
    equivalent: bool = Field(description="Every sample within float tolerance.")
    first_diverging_layer: str | None = Field(
        default=None, description="The first layer whose output is beyond tolerance on the worst sample, where told."
    )


class LayerSensitivity(Record):
    """What quantizing one layer alone does to the answers."""

    layer: str = Field(description="Path of the module, or name of the ONNX node: what excluded_layers takes.")
    operator: str = Field(description="Such as Conv or MatMul.")
    error: float = Field(ge=0, description="Mean squared error of the outputs, over the variance of the source's.")


class Sensitivity(Record):
    """Every quantizable layer of the source, the one that costs most first."""

    layers: tuple[LayerSensitivity, ...]
    samples: int = Field(ge=1, description="Calibration samples that were looked at.")
    seconds: float = Field(ge=0)


class Candidate(Record):
    """One recipe run by one runtime; the id is a digest of source, recipe, runtime and tool versions."""

    id: Digest
    recipe: tuple[PluginConfig, ...]
    runtime: PluginConfig

    @property
    def label(self) -> str:
        """A short name for people, such as ``export_onnx > quantize_static_int8 @ onnxruntime``."""
        steps = " > ".join(step.label for step in self.recipe) or "source"
        return f"{steps} @ {self.runtime.label}"


class CandidateResult(Record):
    """All that is known of one candidate."""

    candidate: Candidate
    status: CandidateStatus
    baseline: bool = False
    reason: str = Field(default="", description="Why it failed, was skipped or refused, or was not chosen.")
    artifact: ArtifactRef | None = None
    folder: str | None = Field(
        default=None, description="Its folder below the output folder: artifact, log, reproduce.py."
    )
    signature: Signature | None = None
    comparison: NumericalComparison | None = None
    score: Interval | None = Field(default=None, description="The metric on the evaluation set.")
    fidelity: PairedTest | None = None
    worst_slice: SliceResult | None = Field(default=None, description="Where the evaluation set names slices.")
    batch_invariant: bool | None = None
    gate: GateDecision = GateDecision()
    benchmark: Benchmark | None = None
    on_front: bool = False
    finalist: bool = Field(
        default=False, description="Its figures are of the final measurement; those of others are of a first look."
    )
    build_seconds: float = Field(default=0.0, ge=0)
    cached: bool = Field(default=False, description="The artifact came from the candidate cache.")
    taken_over: bool = Field(default=False, description="Done by an earlier run of this search, which was interrupted.")
    repairs: Digest | None = Field(
        default=None, description="The refused candidate whose costliest layers this one leaves in float."
    )
    cost_per_million: float | None = Field(
        default=None, ge=0, description="Price of a million requests at the smallest batch size, one call at a time."
    )


class OptimizationResult(Record):
    """The outcome of one search."""

    source: ArtifactRef
    evaluation_set: Digest
    calibration_set: Digest | None
    config: OptimizationConfig
    environment: Environment
    metric: str
    samples: int = Field(ge=0)
    candidates: tuple[CandidateResult, ...]
    winner: Digest | None = Field(description="The id of the chosen candidate; None if none passed.")
    sensitivity: Sensitivity | None = Field(default=None, description="Measured if a quantized candidate was refused.")
    seconds: float = Field(ge=0)
    seconds_by_step: dict[str, float] = Field(default_factory=dict, description="What this run's time went to.")
    ended: str = Field(default="", description="Why no further candidate was tried.")

    @property
    def chosen(self) -> CandidateResult | None:
        """The winner's result."""
        return next((result for result in self.candidates if result.candidate.id == self.winner), None)

    @property
    def baseline(self) -> CandidateResult | None:
        """The first baseline: the source model as it was taken in, on its reference runtime."""
        return next((result for result in self.candidates if result.baseline), None)
