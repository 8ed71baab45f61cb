"""What serves: routes with a generation, their history, and the catalog entries that the engine watches."""

from datetime import datetime
from enum import StrEnum
from typing import Self

from pydantic import Field, model_validator

from registry.records.base import NO_NUL, Digest, Record, VersionNumber
from registry.records.gate import GateDecision
from registry.records.model import ServedVersion
from registry.records.tenant import QualifiedName


class TrafficSplit(Record):
    """Shares of traffic by version, in percent; they sum to 100."""

    weights: dict[VersionNumber, float] = Field(min_length=1)

    @model_validator(mode="after")
    def _sums_to_100(self) -> Self:
        if any(weight < 0 for weight in self.weights.values()):
            raise ValueError("a traffic weight is a percentage and cannot be negative")
        total = sum(self.weights.values())
        if abs(total - 100) > 1e-6:
            raise ValueError(f"traffic weights must sum to 100, got {total}")
        return self


class NonFinite(StrEnum):
    """What is done with NaN and infinities in the inputs of a request."""

    REFUSE = "refuse"
    PASS = "pass"


class ServingPolicy(Record):
    """How the engine serves a model, whichever version answers."""

    latency_objective_ms: float | None = Field(
        default=None, gt=0, description="p99 of an answer inside the engine; batches grow no further than it allows."
    )
    max_waiting: int | None = Field(default=None, ge=1, description="Requests that may wait; None: the engine's limit.")
    pinned: bool = Field(default=False, description="Loaded at start and never evicted.")
    cache_mib: int = Field(
        default=0, ge=0, description="Memory for answers given before; 0: every request is computed."
    )
    non_finite: NonFinite = Field(default=NonFinite.REFUSE, description="NaN and infinities in inputs.")


class Shadow(Record):
    """A version that computes a share of the requests after they were answered; nobody sees its outputs."""

    version: VersionNumber
    percent: float = Field(default=100, gt=0, le=100)


class Route(Record):
    """What serves one model now, and how. Every change replaces it and adds one to the generation."""

    model: QualifiedName
    generation: int = Field(ge=1)
    champion: VersionNumber
    split: TrafficSplit
    policy: ServingPolicy = ServingPolicy()
    shadow: Shadow | None = None
    updated_at: datetime


class ReleaseAction(StrEnum):
    """What changed a route."""

    PROMOTE = "promote"
    ROLLBACK = "rollback"
    POLICY = "policy"
    SHADOW = "shadow"
    TRAFFIC = "traffic"


class ReleaseEvent(Record):
    """One change of a route, as kept in the ledger's history; policy, shadow and split are those from then on."""

    model: QualifiedName
    generation: int = Field(ge=1)
    action: ReleaseAction
    champion: VersionNumber
    previous: VersionNumber | None
    policy: ServingPolicy = ServingPolicy()
    shadow: Shadow | None = None
    split: TrafficSplit | None = Field(default=None, description="None: the event is older than what was kept of it.")
    actor: str
    reason: str
    at: datetime


class CatalogEntry(Record):
    """One model as the engine sees it: the file ``<model>.json`` in the catalog folder."""

    model: QualifiedName
    generation: int = Field(ge=0, description="0: nothing is live yet, versions answer by number only.")
    split: TrafficSplit | None
    versions: tuple[ServedVersion, ...]
    shadow: Shadow | None = None
    policy: ServingPolicy = ServingPolicy()

    @model_validator(mode="after")
    def _versions_are_distinct(self) -> Self:
        numbers = [served.version for served in self.versions]
        if len(set(numbers)) < len(numbers):
            twice = sorted({number for number in numbers if numbers.count(number) > 1})
            raise ValueError(f"the entry of {self.model} holds the versions {twice} more than once")
        return self

    @model_validator(mode="after")
    def _split_and_shadow_name_known_versions(self) -> Self:
        named = set(self.split.weights) if self.split else set()
        if self.shadow:
            named.add(self.shadow.version)
        unknown = sorted(named - {served.version for served in self.versions})
        if unknown:
            raise ValueError(f"split or shadow of {self.model} name versions {unknown} that the entry does not hold")
        return self


class OptimizationState(StrEnum):
    """Where an optimization stands."""

    QUEUED = "queued"
    RUNNING = "running"
    RELEASED = "released"
    REGISTERED = "registered"
    REFUSED = "refused"  # by the gate: see gate
    INVALID = "invalid"  # the input cannot be used: see message
    FAILED = "failed"
    CANCELLING = "cancelling"  # asked for; the search is being stopped
    CANCELLED = "cancelled"

    @property
    def open(self) -> bool:
        """True while something may still come of it."""
        return self in (OptimizationState.QUEUED, OptimizationState.RUNNING, OptimizationState.CANCELLING)

    @property
    def stopped(self) -> bool:
        """True once somebody has cancelled it: a run of it that begins later goes no further."""
        return self in (OptimizationState.CANCELLING, OptimizationState.CANCELLED)

    def may_become(self, later: "OptimizationState") -> bool:
        """False if one that is or was cancelled would go on, or one that has ended be cancelled, or end so again."""
        if later is self:
            return self.open
        if self.stopped and later in (OptimizationState.QUEUED, OptimizationState.RUNNING):
            return False
        return self.open or later is not OptimizationState.CANCELLING


class OptimizationStatus(Record):
    """What the platform knows of one optimization; kept in the ledger, read by client and CLI."""

    id: str
    model: QualifiedName
    state: OptimizationState
    stage: str = ""
    message: str = ""
    source: Digest
    evaluation_set: Digest
    version: VersionNumber | None = None
    gate: GateDecision = GateDecision()
    flow_run: str | None = Field(default=None, description="Prefect flow run id.")
    result: Digest | None = Field(default=None, description="Artifact-store digest: result.json and report.html.")
    best: Digest | None = Field(default=None, description="Of one that was cancelled: the best artifact until then.")
    candidates_done: int = 0
    candidates_total: int = 0
    created_at: datetime
    updated_at: datetime


class Feedback(Record):
    """What became known of one captured request: the true answers, one a sample, or a score of the whole answer."""

    model: QualifiedName
    request_id: str = Field(min_length=1, max_length=128, pattern=NO_NUL)
    labels: tuple[float, ...] = Field(default=(), description="One a sample.")
    score: float | None = Field(default=None, ge=0, le=1, description="How good the answer was; more is better.")

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if not self.labels and self.score is None:
            raise ValueError("feedback holds labels, one a sample, or a score from 0 to 1")
        return self
