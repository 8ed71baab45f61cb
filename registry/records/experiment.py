"""Experiments: versions beside the champion on live traffic, until one is known to be better or worse."""

from datetime import datetime
from enum import StrEnum

from pydantic import Field

from registry.records.base import Record, VersionNumber
from registry.records.benchmark import Interval
from registry.records.release import TrafficSplit
from registry.records.tenant import QualifiedName


class ExperimentMetric(StrEnum):
    """What each request is scored by, from 0 to 1."""

    TOP1 = "top1"  # the share of its samples whose largest output is the label that came as feedback
    SCORE = "score"  # the score that came as feedback


class Experiment(Record):
    """A question to live traffic; its arms are the versions of its split, and the champion is the control."""

    id: str
    model: QualifiedName
    hypothesis: str = ""
    metric: ExperimentMetric
    confidence: float
    split: TrafficSplit
    control: VersionNumber
    generation: int = Field(ge=1, description="Of the route, from which the split is in force.")
    actor: str
    started_at: datetime
    ended_at: datetime | None = None
    promoted: VersionNumber | None = Field(default=None, description="The arm that got all traffic at the end.")


class ArmVerdict(StrEnum):
    """What is known of an arm beside the control."""

    CONTROL = "control"
    BETTER = "better"
    WORSE = "worse"
    UNDECIDED = "undecided"


class Arm(Record):
    """One version's part in an experiment."""

    version: VersionNumber
    percent: float
    captured: int = Field(ge=0, description="Captured requests that it answered.")
    scored: int = Field(ge=0, description="Those of them that have feedback.")
    mean: Interval | None = Field(description="Of the scores; None: there is none yet.")
    difference: Interval | None = Field(description="The mean less the control's; None: of the control, or no score.")
    verdict: ArmVerdict
