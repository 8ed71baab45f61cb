"""Compile to TensorRT engines with Torch-TensorRT, for this machine's GPU; never executed by this project."""

from typing import Any, ClassVar, Literal

import torch
import torch_tensorrt
from pydantic import Field
from torch.export.passes import move_to_device_pass

from registry.errors import CandidateError
from registry.plugins import knob
from registry.records.model import ArtifactFormat, TensorSpec
from tasks.optimizer.base import Artifact, Pass, PassContext, Stage

INSTALL = "pip install 'burnish[nvidia]'"
_NO_GPU = f"PyTorch sees no NVIDIA GPU; on a machine with one, with CUDA's build of PyTorch, run: {INSTALL}"
_LOW = {"fp16": torch.float16, "bf16": torch.bfloat16}


class CompileTorchTensorRt(Pass):
    """An exported program whose supported parts are TensorRT engines; the rest stays with PyTorch on the GPU.

    Precision follows from the program's own types, as Torch-TensorRT has it since 2.10: fp16 and bf16 are its autocast.
    Two compilations differ in bytes, because kernels are chosen by their times. Written against the published source
    of Torch-TensorRT; no machine of this project could run it.

    Source: https://docs.pytorch.org/TensorRT/user_guide/mixed_precision.html
    """

    stage: ClassVar[Stage] = Stage.COMPILE
    consumes: ClassVar[frozenset[ArtifactFormat]] = frozenset({ArtifactFormat.EXPORTED_PROGRAM})
    produces: ClassVar[ArtifactFormat] = ArtifactFormat.TENSORRT_PROGRAM
    suits: ClassVar[frozenset[str] | None] = frozenset({"torch_tensorrt"})
    deterministic: ClassVar[bool] = False

    precision: Literal["fp32", "fp16", "bf16"] = knob(
        "fp32", search=("fp32", "fp16", "bf16"), description="Type of float computation; fp32 is without TF32."
    )
    sparse_weights: bool = knob(False, description="Use 2:4 sparse kernels for weights that have that pattern.")
    optimization_level: int = Field(default=3, ge=0, le=5, description="How long TensorRT looks for better kernels.")
    workspace_mib: int = Field(default=1024, ge=1, description="GPU memory that building an engine may use.")
    largest_batch: int = Field(default=32, ge=1, description="The engines are built for batches up to this size.")

    @classmethod
    def unavailable(cls) -> str | None:
        """An NVIDIA GPU, and the build of PyTorch that knows it."""
        return None if torch.cuda.is_available() else _NO_GPU

    def apply(self, artifact: Artifact, context: PassContext) -> Artifact:
        """Write ``program.pt2``.

        Raises:
            CandidateError: the program cannot be compiled or saved.
        """
        produced = Artifact(context.workspace, self.produces, artifact.signature)
        program = move_to_device_pass(torch.export.load(artifact.file), "cuda")
        inputs = [self._input(spec) for spec in artifact.signature.inputs]
        try:
            compiled = torch_tensorrt.dynamo.compile(
                program,
                arg_inputs=inputs,
                disable_tf32=self.precision == "fp32",
                enable_autocast=self.precision in _LOW,
                autocast_low_precision_type=_LOW.get(self.precision),
                sparse_weights=self.sparse_weights,
                workspace_size=self.workspace_mib * 2**20,
                optimization_level=self.optimization_level,
                immutable_weights=True,
                cache_built_engines=False,
                reuse_cached_engines=False,
            )
            torch_tensorrt.save(
                compiled,
                str(produced.file),
                output_format="exported_program",
                arg_inputs=[one.example_tensor("opt_shape") if _varies(one) else one.torch_tensor for one in inputs],
                dynamic_shapes=self._dynamic_shapes(artifact.signature.inputs),
            )
        except (RuntimeError, ValueError, AssertionError, TypeError) as error:
            raise CandidateError(f"Torch-TensorRT cannot compile this program: {error}") from error
        return produced

    def _input(self, spec: TensorSpec) -> Any:  # noqa: ANN401  the library has no types
        dtype = getattr(torch, spec.datatype.numpy_name)
        if None not in spec.shape:
            return torch_tensorrt.Input(shape=spec.shape, dtype=dtype, name=spec.name)
        shapes = {
            f"{name}_shape": tuple(batch if size is None else size for size in spec.shape)
            for name, batch in (("min", 1), ("opt", min(8, self.largest_batch)), ("max", self.largest_batch))
        }
        return torch_tensorrt.Input(**shapes, dtype=dtype, name=spec.name)

    def _dynamic_shapes(self, inputs: tuple[TensorSpec, ...]) -> dict[str, Any] | None:
        """One dimension that all inputs share, or none if no size varies."""
        if all(None not in spec.shape for spec in inputs):
            return None
        batch = torch.export.Dim("batch", min=1, max=self.largest_batch)
        return {
            spec.name: {axis: batch for axis, size in enumerate(spec.shape) if size is None} or None for spec in inputs
        }


def _varies(given: Any) -> bool:  # noqa: ANN401  the library has no types
    return isinstance(given.shape, dict)
