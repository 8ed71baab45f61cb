"""What a candidate's child process is told and what it answers."""

from pathlib import Path

from registry.records.base import Record
from registry.records.gate import RuleOutcome
from registry.records.model import ArtifactFormat, PluginConfig, Signature
from tasks.optimizer.base import Artifact

ARTIFACT_FOLDER = "artifact"
PREDICTIONS_FILE = "predictions.npz"


class PlacedArtifact(Record):
    """An artifact and where it lies."""

    folder: str
    format: ArtifactFormat
    signature: Signature

    @classmethod
    def of(cls, artifact: Artifact) -> "PlacedArtifact":
        """Describe an artifact."""
        return cls(folder=str(artifact.folder.absolute()), format=artifact.format, signature=artifact.signature)

    @property
    def artifact(self) -> Artifact:
        """The artifact described."""
        return Artifact(Path(self.folder), self.format, self.signature)


class CandidateJob(Record):
    """One candidate: passes to apply to an artifact, the runtime to load the product, the inputs to run."""

    source: PlacedArtifact
    start: PlacedArtifact
    """What the steps begin with: the source, or what the recipe's first passes made of it earlier."""
    steps: tuple[PluginConfig, ...]
    runtime: PluginConfig
    evaluation: str
    """Inputs as ``.npz``."""
    calibration: str | None = None
    source_code: str | None = None
    """``FILE.py:FUNCTION`` that makes the source as an ``nn.Module``, for passes that need its code."""
    check_invariance: bool
    largest_batch: int = 8
    """The largest size that will be served, for the check of invariance."""
    seed: int = 0
    threads: int = 1
    serving_threads: int = 1
    timeout_s: float


class CandidateOutcome(Record):
    """What a candidate's child made. Folders are names below its workspace."""

    products: tuple[PlacedArtifact, ...]
    """The product of each step, in order."""
    invariance: RuleOutcome | None
    step_seconds: tuple[float, ...]
    run_seconds: float
