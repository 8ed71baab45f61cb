"""Compile to machine code with AOTInductor, for the CPU and the number of threads of this target."""

from typing import ClassVar

import torch
from torch._inductor import aoti_compile_and_package
from torch._inductor.cpp_builder import get_cpp_compiler
from torch._inductor.exc import InvalidCxxCompiler
from torch._inductor.utils import fresh_cache
from torch.export import ExportedProgram

from registry.errors import CandidateError
from registry.plugins import knob
from registry.records.model import ArtifactFormat, Signature
from tasks.optimizer.base import Artifact, Pass, PassContext, Stage
from tasks.optimizer.batch_norms import fold_batch_norms
from tasks.optimizer.lifting import example_inputs, export_again, lift


class CompileAotInductor(Pass):
    """One shared library with fused kernels; a change of CPU or of the number of threads needs a new one.

    AOTInductor is the ahead-of-time form of torch.compile: the same compiler, without Python when it runs. Batch norms
    are folded first. Kernels are not tuned by trying them out (``max_autotune``): that took three times as long for at
    most 15 % at batch 1 and nothing at batch 8.

    Two compilations of one program differ in bytes: the names of the generated sources follow from the folder that
    they were compiled in.

    Source: https://docs.pytorch.org/docs/2.13/torch.compiler_aot_inductor.html
    """

    stage: ClassVar[Stage] = Stage.COMPILE
    consumes: ClassVar[frozenset[ArtifactFormat]] = frozenset({ArtifactFormat.EXPORTED_PROGRAM})
    produces: ClassVar[ArtifactFormat] = ArtifactFormat.AOTI_PACKAGE
    deterministic: ClassVar[bool] = False

    freezing: bool = knob(
        True,
        search=(True, False),
        description="Lay the weights out for the kernels ahead of time: helps large layers, can slow small ones.",
    )

    @classmethod
    def unavailable(cls) -> str | None:
        """A C++ compiler is needed, here only and not where the product runs."""
        try:
            get_cpp_compiler()
        except InvalidCxxCompiler:
            return "there is no C++ compiler; run: apt-get install g++"
        return None

    def apply(self, artifact: Artifact, context: PassContext) -> Artifact:
        """Write ``package.pt2``.

        Raises:
            CandidateError: the program cannot be compiled.
        """
        produced = Artifact(context.workspace, self.produces, artifact.signature)
        program = _folded(torch.export.load(artifact.file), artifact.signature)
        configuration = {"cpp.threads": context.serving_threads, "freezing": self.freezing}
        try:
            with fresh_cache(dir=str(context.workspace)), torch.no_grad():
                aoti_compile_and_package(program, package_path=str(produced.file), inductor_configs=configuration)
        except RuntimeError as error:
            raise CandidateError(f"AOTInductor cannot compile this program: {error}") from error
        return produced


def _folded(program: ExportedProgram, signature: Signature) -> ExportedProgram:
    module = lift(program).module
    if not fold_batch_norms(module):
        return program
    return export_again(module, signature, example_inputs(program, signature))
