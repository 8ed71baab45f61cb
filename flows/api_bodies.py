"""What the control API takes and answers, besides the records themselves."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, Field, StringConstraints

from registry.records.base import NO_NUL, Digest, ModelName, Record, VersionNumber
from registry.records.experiment import Arm, Experiment, ExperimentMetric
from registry.records.model import ModelVersion, ServedVersion
from registry.records.observation import DriftReport
from registry.records.optimization import OptimizationConfig
from registry.records.release import (
    Feedback,
    OptimizationStatus,
    ReleaseEvent,
    Route,
    ServingPolicy,
    Shadow,
    TrafficSplit,
)
from registry.records.tenant import QualifiedName

Reason = Annotated[str, StringConstraints(max_length=1000, pattern=NO_NUL)]
"""Why something is done."""


class Page(Record):
    """A part of a list."""

    next: str | None = Field(default=None, description="Cursor of the next page; none: this is the last one.")


class Uploaded(BaseModel):
    """The digest under which the artifact store keeps an upload; not a record, whose own digest would shadow it."""

    digest: Digest


class OptimizationBody(Record):
    """What an optimization starts from; the digests come from uploads."""

    source: Digest
    evaluation: Digest
    calibration: Digest | None = None
    config: OptimizationConfig = OptimizationConfig()
    release: bool = Field(default=True, description="Promote the winner; otherwise it is registered only.")


class ChangeBody(Record):
    """What every change of a route may say."""

    expected_generation: int | None = Field(default=None, ge=0, description="Refuse if the route is another by now.")
    reason: Reason = Field(default="", description="Kept in the history.")


class PromoteBody(ChangeBody):
    """Which version shall serve, and why."""

    version: VersionNumber


class PolicyBody(ChangeBody):
    """How a model shall be served, and why."""

    policy: ServingPolicy


class PolicyView(Record):
    """How a model is served, and since which generation it may be so."""

    generation: int = Field(description="Of the route; 0: nothing is live.")
    policy: ServingPolicy


class TrafficBody(ChangeBody):
    """Which versions shall answer which percentages of the requests, and why."""

    split: TrafficSplit


class TrafficView(Record):
    """Which versions answer which percentages of the requests."""

    generation: int = Field(description="Of the route; 0: nothing is live.")
    champion: VersionNumber | None
    split: TrafficSplit | None


class ExperimentBody(ChangeBody):
    """What to ask live traffic."""

    split: TrafficSplit = Field(description="The champion, which is the control, and other versions.")
    metric: ExperimentMetric
    confidence: float = Field(default=0.95, ge=0.5, lt=1, description="That all that is said of the arms holds.")
    hypothesis: Reason = Field(default="", description="What is asked, for people.")


class EndBody(Record):
    """How an experiment shall end."""

    promote: VersionNumber | None = Field(
        default=None, description="The arm that gets all traffic; none: the champion."
    )
    reason: Reason = Field(default="", description="Kept in the history.")


class ExperimentView(Record):
    """An experiment, and what is known of its arms at this look."""

    experiment: Experiment
    arms: tuple[Arm, ...]
    until: datetime | None = Field(description="Requests count until then: it ended, or its split was replaced.")
    notes: tuple[str, ...] = Field(default=(), description="What could not be read, or was left out.")


class ExperimentList(Page):
    """A model's experiments, newest first."""

    experiments: tuple[Experiment, ...]


class ShadowBody(ChangeBody):
    """Which version shall compute answered requests again, and why."""

    shadow: Shadow


class RetrainBody(Record):
    """Which training function to call; the stack's first one where none is named."""

    trainer: str | None = Field(default=None, description="module:function, one of the setting `trainers`.")


class FeedbackBody(Feedback):
    """The true answer to one captured request, of a model that is named as its tenant knows it."""

    model: ModelName


class DriftReportList(Page):
    """Drift reports, newest first."""

    reports: tuple[DriftReport, ...]


class FlowRun(Record):
    """A Prefect flow run as Prefect sees it."""

    id: str
    name: str
    state: str
    state_type: str
    url: str


class OptimizationView(Record):
    """An optimization with its flow run."""

    status: OptimizationStatus
    flow_run: FlowRun | None = None
    prefect_unavailable: str | None = Field(default=None, description="Why the flow run is not shown.")


class OptimizationList(Page):
    """Optimizations, newest first."""

    optimizations: tuple[OptimizationStatus, ...]


class ReleaseEventList(Page):
    """Changes of a route, oldest first."""

    events: tuple[ReleaseEvent, ...]


class VersionView(Record):
    """One version: what is registered of it, and its part of the live traffic."""

    version: VersionNumber
    share: float = Field(description="Percent of the model's traffic.")
    served: ServedVersion
    registered: ModelVersion | None = Field(description="None: the registry mirror could not be asked.")


class ModelSummary(Record):
    """One model: what serves of it, and the numbers of its versions."""

    name: QualifiedName
    route: Route | None
    versions: tuple[int, ...]


class ModelList(Page):
    """Models by name."""

    models: tuple[ModelSummary, ...]


class VersionList(Page):
    """A model's versions, oldest first, with its route."""

    name: QualifiedName
    route: Route | None
    versions: tuple[VersionView, ...]
    registry_unavailable: str | None = Field(default=None, description="Why only what the ledger holds is shown.")


class ReleaseView(Record):
    """A changed route, and the engine workers that serve it already."""

    route: Route
    acknowledged: tuple[int, ...]
    pending: tuple[int, ...]


class Health(Record):
    """The control API answers."""

    status: Literal["ok"] = "ok"


class PlatformStatus(Record):
    """What the reconciler found last."""

    models: int
    mirrors: str = Field(description='"in step" when every alias in MLflow is the ledger\'s champion.')
    notes: tuple[str, ...]
