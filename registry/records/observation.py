"""What was seen in production: drift and data quality."""

from datetime import datetime

from pydantic import Field

from registry.records.base import Digest, Record, VersionNumber
from registry.records.gate import RuleOutcome
from registry.records.tenant import QualifiedName


class ColumnDrift(Record):
    """The drift verdict on one column."""

    column: str
    method: str
    score: float
    threshold: float
    drifted: bool


class DriftReport(Record):
    """A comparison of captured requests with the evaluation set of the version that served them."""

    model: QualifiedName
    version: VersionNumber
    created_at: datetime
    requests: int = Field(ge=0)
    samples: int = Field(ge=0)
    columns: tuple[ColumnDrift, ...]
    share_drifted: float = Field(ge=0, le=1)
    drifted: bool
    report: Digest | None = Field(default=None, description="Artifact-store digest: drift.html and drift.json.")


class DataQuality(Record):
    """What the data checks found on an evaluation or calibration set."""

    dataset: str
    samples: int = Field(ge=0)
    outcomes: tuple[RuleOutcome, ...]

    @property
    def passed(self) -> bool:
        """True if no check failed."""
        return all(outcome.verdict == "pass" for outcome in self.outcomes)
