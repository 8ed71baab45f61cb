"""Fold batch norms into the layers before them, so that PyTorch has fewer layers to run."""

from typing import ClassVar

import torch

from registry.errors import CandidateError
from registry.records.model import ArtifactFormat
from tasks.optimizer.base import Artifact, Pass, PassContext, Stage
from tasks.optimizer.batch_norms import fold_batch_norms
from tasks.optimizer.lifting import example_inputs, export_again, lift, save_program


class FoldBatchNorms(Pass):
    """A batch norm's scale and shift become part of the weights of the convolution or linear layer that feeds it.

    For the runtimes that execute the program as it is; those that read ONNX fold by themselves.

    Source: Jacob et al., "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only
    Inference", 2018, equation 14; torch.nn.utils.fusion
    """

    stage: ClassVar[Stage] = Stage.SIMPLIFY
    consumes: ClassVar[frozenset[ArtifactFormat]] = frozenset({ArtifactFormat.EXPORTED_PROGRAM})
    produces: ClassVar[ArtifactFormat] = ArtifactFormat.EXPORTED_PROGRAM
    suits: ClassVar[frozenset[str] | None] = frozenset({"torch_export", "aot_inductor"})

    def apply(self, artifact: Artifact, context: PassContext) -> Artifact:
        """Write ``model.pt2`` without the batch norms that could be folded.

        Raises:
            CandidateError: there is none, or the program cannot be exported again.
        """
        program = torch.export.load(artifact.file)
        module = lift(program).module
        if not fold_batch_norms(module):
            raise CandidateError("this program has no batch norm that follows a convolution or linear layer directly")
        produced = Artifact(context.workspace, self.produces, artifact.signature)
        example = example_inputs(program, artifact.signature)
        save_program(export_again(module, artifact.signature, example), produced.file)
        return produced
