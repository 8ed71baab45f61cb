"""Compute in float16 on a GPU: half the memory to move, tensor cores for every matrix product."""

from typing import ClassVar

import torch

from registry.records.model import ArtifactFormat
from tasks.optimizer.base import Artifact, Pass, PassContext, Stage
from tasks.optimizer.batch_norms import fold_batch_norms
from tasks.optimizer.casting import cast
from tasks.optimizer.lifting import example_inputs, export_again, lift, save_program


class CastFloat16(Pass):
    """Weights and computations in float16, batch norms folded first; inputs and outputs stay float32.

    For Torch-TensorRT, which keeps the types of the program. Numbers beyond 65504 overflow: the comparison with the
    source refuses what comes of it. The program it writes was compared with its source on a CPU; on a GPU it was never
    executed.

    Source: Micikevicius et al., "Mixed Precision Training", 2018;
    https://docs.nvidia.com/deeplearning/performance/mixed-precision-training/index.html
    """

    stage: ClassVar[Stage] = Stage.QUANTIZE
    consumes: ClassVar[frozenset[ArtifactFormat]] = frozenset({ArtifactFormat.EXPORTED_PROGRAM})
    produces: ClassVar[ArtifactFormat] = ArtifactFormat.EXPORTED_PROGRAM
    suits: ClassVar[frozenset[str] | None] = frozenset({"torch_tensorrt"})

    @classmethod
    def unavailable(cls) -> str | None:
        """CPUs compute float16 more slowly than float32."""
        if not torch.cuda.is_available():
            return "float16 pays on a GPU only, and PyTorch finds none here; run it on a target with an NVIDIA GPU"
        return None

    def apply(self, artifact: Artifact, context: PassContext) -> Artifact:
        """Write ``model.pt2`` with weights of half the size.

        Raises:
            CandidateError: the program cannot be exported again.
        """
        program = torch.export.load(artifact.file)
        module = lift(program).module
        fold_batch_norms(module)
        produced = Artifact(context.workspace, self.produces, artifact.signature)
        example = example_inputs(program, artifact.signature)
        changed = cast(module, torch.float16, channels_last=True)
        save_program(export_again(changed, artifact.signature, example), produced.file)
        return produced
