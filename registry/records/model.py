"""What a model is: its tensors, its artifacts, its versions."""

from datetime import datetime
from enum import StrEnum
from typing import Self

from pydantic import Field, model_validator

from registry.records.base import Digest, Record, VersionNumber
from registry.records.benchmark import Environment, Metric
from registry.records.gate import GateDecision
from registry.records.tenant import QualifiedName


class Datatype(StrEnum):
    """Tensor element types under their Open Inference Protocol names."""

    BOOL = "BOOL"
    UINT8 = "UINT8"
    UINT16 = "UINT16"
    UINT32 = "UINT32"
    UINT64 = "UINT64"
    INT8 = "INT8"
    INT16 = "INT16"
    INT32 = "INT32"
    INT64 = "INT64"
    FP16 = "FP16"
    FP32 = "FP32"
    FP64 = "FP64"
    BF16 = "BF16"
    BYTES = "BYTES"

    @property
    def numpy_name(self) -> str:
        """The NumPy name of the type, such as ``float32``; ``bfloat16`` is one where ``ml_dtypes`` is imported."""
        odd = {Datatype.BOOL: "bool", Datatype.BF16: "bfloat16", Datatype.BYTES: "object"}
        return odd.get(self) or self.value.lower().replace("fp", "float")

    @classmethod
    def from_numpy_name(cls, name: str) -> "Datatype":
        """Return the datatype of one of NumPy's own types of numbers; BF16 and BYTES are none.

        Raises:
            ValueError: no datatype has this name.
        """
        return cls(name.upper().replace("FLOAT", "FP"))


class TensorSpec(Record):
    """One named tensor; ``None`` in the shape is a size that may vary from request to request."""

    name: str = Field(min_length=1)
    datatype: Datatype
    shape: tuple[int | None, ...]


class Signature(Record):
    """The inputs and outputs of a model, in order."""

    inputs: tuple[TensorSpec, ...] = Field(min_length=1)
    outputs: tuple[TensorSpec, ...] = Field(min_length=1)

    @property
    def batched(self) -> bool:
        """True if axis 0 of every input and output varies, so that samples can share one run."""
        return all(spec.shape[:1] == (None,) for spec in (*self.inputs, *self.outputs))


class ArtifactFormat(StrEnum):
    """The kinds of artifact that passes produce and runtimes consume."""

    EXPORTED_PROGRAM = "exported_program"
    ONNX = "onnx"
    OPENVINO_IR = "openvino_ir"
    AOTI_PACKAGE = "aoti_package"
    TENSORRT_PROGRAM = "tensorrt_program"

    @property
    def main_file(self) -> str:
        """The file inside the artifact's folder that a runtime opens."""
        return {
            ArtifactFormat.EXPORTED_PROGRAM: "model.pt2",
            ArtifactFormat.ONNX: "model.onnx",
            ArtifactFormat.OPENVINO_IR: "model.xml",
            ArtifactFormat.AOTI_PACKAGE: "package.pt2",
            ArtifactFormat.TENSORRT_PROGRAM: "program.pt2",
        }[self]


class ArtifactRef(Record):
    """A stored artifact: the tree digest of its folder, its format, its size in bytes."""

    sha256: Digest
    format: ArtifactFormat
    size_bytes: int = Field(ge=0)


class PluginConfig(Record):
    """A plug-in (pass or runtime) with its knobs; knobs not named have the plug-in's defaults."""

    name: str
    knobs: dict[str, bool | int | float | str | tuple[str, ...] | None] = Field(default_factory=dict)

    @property
    def label(self) -> str:
        """The plug-in with its knobs for people, such as ``onnxruntime(threads=2)``; a list by its length."""
        knobs = ",".join(
            f"{name}={len(value) if isinstance(value, tuple) else value}" for name, value in sorted(self.knobs.items())
        )
        return f"{self.name}({knobs})" if knobs else self.name


class ServedVersion(Record):
    """All that the engine needs to serve one version: which bytes, by which runtime, with what signature."""

    version: VersionNumber
    artifact: ArtifactRef
    runtime: PluginConfig
    signature: Signature
    batch_invariant: bool = Field(description="False: the engine never puts two requests into one batch.")
    max_batch_size: int = Field(default=32, ge=1)


class VersionDraft(Record):
    """A model version before the registry has given it a number."""

    model: QualifiedName
    optimization_id: str = Field(description="Idempotency key: one optimization registers at most one version.")
    source: ArtifactRef = Field(description="The source model as taken in.")
    artifact: ArtifactRef
    runtime: PluginConfig
    signature: Signature
    recipe: tuple[PluginConfig, ...]
    batch_invariant: bool
    tool_versions: dict[str, str]
    environment: Environment
    metrics: tuple[Metric, ...]
    gate: GateDecision
    evaluation_set: Digest = Field(description="Artifact-store digest of the evaluation set.")
    calibration_set: Digest | None = None
    parent_version: VersionNumber | None = Field(default=None, description="The champion it was gated against.")
    report: Digest = Field(description="Artifact-store digest of the report page's folder (report.html).")

    @model_validator(mode="after")
    def _gate_passed(self) -> Self:
        if not self.gate.passed:
            raise ValueError("only a candidate that passed its gate can become a version")
        return self


class ModelVersion(Record):
    """A registered model version."""

    version: VersionNumber
    created_at: datetime
    draft: VersionDraft

    @property
    def model(self) -> str:
        """The model's name."""
        return self.draft.model

    @property
    def served(self) -> ServedVersion:
        """The part of the version that the engine needs."""
        draft = self.draft
        return ServedVersion(
            version=self.version,
            artifact=draft.artifact,
            runtime=draft.runtime,
            signature=draft.signature,
            batch_invariant=draft.batch_invariant,
        )
