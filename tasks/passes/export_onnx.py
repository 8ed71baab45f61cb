"""Export to ONNX with PyTorch's exporter for exported programs, the batch axis kept dynamic."""

from typing import ClassVar

import torch

from registry.records.model import ArtifactFormat
from tasks.optimizer.base import Artifact, Pass, PassContext, Stage
from tasks.optimizer.onnx_export import write_onnx


class ExportOnnx(Pass):
    """Leave PyTorch: one ``model.onnx`` whose inputs and outputs have the signature's names and types.

    Source: https://docs.pytorch.org/docs/2.13/onnx_export.html
    """

    stage: ClassVar[Stage] = Stage.EXPORT
    consumes: ClassVar[frozenset[ArtifactFormat]] = frozenset({ArtifactFormat.EXPORTED_PROGRAM})
    produces: ClassVar[ArtifactFormat] = ArtifactFormat.ONNX

    def apply(self, artifact: Artifact, context: PassContext) -> Artifact:
        """Write ``model.onnx``.

        Raises:
            CandidateError: the exporter does not know an operator, or the result has other inputs or outputs.
        """
        produced = Artifact(context.workspace, self.produces, artifact.signature)
        write_onnx(torch.export.load(artifact.file), artifact.signature, produced.file)
        return produced
