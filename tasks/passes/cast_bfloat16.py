"""Compute in bfloat16: half the memory to move, twice the multiplications, eight bits of precision."""

from typing import ClassVar

import torch

from registry.plugins import knob
from registry.records.model import ArtifactFormat
from tasks.optimizer.base import Artifact, Pass, PassContext, Stage
from tasks.optimizer.batch_norms import fold_batch_norms
from tasks.optimizer.casting import cast
from tasks.optimizer.lifting import example_inputs, export_again, lift, save_program


class CastBfloat16(Pass):
    """Weights and computations in bfloat16, batch norms folded first; inputs and outputs stay float32.

    For the runtimes that execute the program as it is; OpenVINO computes in bfloat16 by a knob of its own.

    Source: Kalamkar et al., "A Study of BFLOAT16 for Deep Learning Training", 2019;
    https://docs.pytorch.org/docs/2.13/notes/numerical_accuracy.html
    """

    stage: ClassVar[Stage] = Stage.QUANTIZE
    consumes: ClassVar[frozenset[ArtifactFormat]] = frozenset({ArtifactFormat.EXPORTED_PROGRAM})
    produces: ClassVar[ArtifactFormat] = ArtifactFormat.EXPORTED_PROGRAM
    suits: ClassVar[frozenset[str] | None] = frozenset({"torch_export", "aot_inductor"})

    channels_last: bool = knob(
        True, search=(True, False), description="Images and 2-D kernels lie in memory with their channels innermost."
    )

    @classmethod
    def unavailable(cls) -> str | None:
        """Without instructions for it, bfloat16 is emulated and slower than float32."""
        capabilities = torch.cpu.get_capabilities()
        if not (capabilities.get("avx512_bf16") or capabilities.get("amx_bf16") or capabilities.get("bf16")):
            return "this CPU has no bfloat16 instructions (avx512_bf16, amx_bf16); it takes a newer CPU"
        return None

    def apply(self, artifact: Artifact, context: PassContext) -> Artifact:
        """Write ``model.pt2`` with weights of half the size.

        Raises:
            CandidateError: the program cannot be exported again.
        """
        program = torch.export.load(artifact.file)
        module = lift(program).module
        fold_batch_norms(module)
        changed = cast(module, torch.bfloat16, channels_last=self.channels_last)
        produced = Artifact(context.workspace, self.produces, artifact.signature)
        example = example_inputs(program, artifact.signature)
        save_program(export_again(changed, artifact.signature, example), produced.file)
        return produced
