"""Export to ONNX with PyTorch's exporter for exported programs, the batch axis kept dynamic."""

from typing import ClassVar

import torch
from pydantic import Field

from registry.records.model import ArtifactFormat
from tasks.optimizer.base import Artifact, Pass, PassContext, Stage
from tasks.optimizer.onnx_export import OPSET, Exporter, write_onnx


class ExportOnnx(Pass):
    """Leave PyTorch: one ``model.onnx`` whose inputs and outputs have the signature's names and types.

    What PyTorch's exporter for exported programs cannot translate is traced by its older one, and the log says why;
    the file's metadata ``exporter`` says which one it was.

    Source: https://docs.pytorch.org/docs/2.13/onnx_export.html
    """

    stage: ClassVar[Stage] = Stage.EXPORT
    consumes: ClassVar[frozenset[ArtifactFormat]] = frozenset({ArtifactFormat.EXPORTED_PROGRAM})
    produces: ClassVar[ArtifactFormat] = ArtifactFormat.ONNX

    exporter: Exporter = Field(
        default="auto", description="dynamo translates the program, legacy traces it; auto: legacy where dynamo fails."
    )
    opset: int = Field(default=OPSET, ge=18, description="Version of ONNX's operators.")

    def apply(self, artifact: Artifact, context: PassContext) -> Artifact:
        """Write ``model.onnx``.

        Raises:
            CandidateError: no exporter knows an operator, or the result has other inputs or outputs or a fixed batch.
        """
        produced = Artifact(context.workspace, self.produces, artifact.signature)
        program = torch.export.load(artifact.file)
        write_onnx(program, artifact.signature, produced.file, exporter=self.exporter, opset=self.opset)
        return produced
