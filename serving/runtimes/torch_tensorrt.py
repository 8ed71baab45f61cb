"""TensorRT engines inside an exported program, on an NVIDIA GPU; never executed by this project, which has none."""

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
import torch_tensorrt  # its operators run the engines
from torch.export import ExportedProgram
from torch.utils import _pytree as pytree

from registry.errors import CandidateError
from registry.records.model import ArtifactFormat, Signature
from serving.memory import allocated_bytes
from serving.program_file import refuse_pickles
from serving.runtime import Array, Arrays, Runtime, Session, bytes_added

INSTALL = "pip install 'burnish[nvidia]'"
_NO_GPU = f"PyTorch sees no NVIDIA GPU; on a machine with one, with CUDA's build of PyTorch, run: {INSTALL}"
_ENGINES = frozenset({"torch_tensorrt.dynamo.runtime._TRTEngine.TRTEngine"})


class TorchTensorRt(Runtime):
    """The program that ``compile_torch_tensorrt`` saved; batches go to the GPU and come back.

    Torch-TensorRT saves its engines as pickled objects of one class; a file that names any other is refused before it
    is loaded. What the runtime keeps on the GPU is not part of ``resident_bytes``. Written against the published
    source of Torch-TensorRT; no machine of this project could run it.

    Source: https://docs.pytorch.org/TensorRT/user_guide/saving_models.html
    """

    consumes: ClassVar[frozenset[ArtifactFormat]] = frozenset({ArtifactFormat.TENSORRT_PROGRAM})

    @classmethod
    def unavailable(cls) -> str | None:
        """An NVIDIA GPU, and the build of PyTorch that knows it."""
        return None if torch.cuda.is_available() else _NO_GPU

    def load(self, folder: Path, artifact_format: ArtifactFormat, signature: Signature) -> Session:
        """Open ``program.pt2``.

        Raises:
            CandidateError: the file cannot be loaded, holds other objects than engines or lacks the signature.
        """
        self.check_datatypes(signature)
        file = folder / artifact_format.main_file
        before = allocated_bytes()
        try:
            refuse_pickles(file, classes=_ENGINES)
            program = torch.export.load(file)
        except (OSError, AssertionError, RuntimeError, ValueError, KeyError, zipfile.BadZipFile) as error:
            raise CandidateError(f"Torch-TensorRT {torch_tensorrt.__version__} cannot load {file}: {error}") from error
        if len(program.graph_signature.user_inputs) != len(signature.inputs):
            raise CandidateError(f"{file} takes {program.graph_signature.user_inputs}, not {signature.inputs}")
        if len(program.graph_signature.user_outputs) != len(signature.outputs):
            raise CandidateError(f"{file} returns {program.graph_signature.user_outputs}, not {signature.outputs}")
        return TorchTensorRtSession(program, signature, bytes_added(before, folder))


class TorchTensorRtSession(Session):
    """A loaded program; inputs are taken in the signature's order."""

    def __init__(self, program: ExportedProgram, signature: Signature, resident_bytes: int) -> None:
        """Wrap a loaded program."""
        super().__init__(signature, resident_bytes)
        self._module = program.module(check_guards=False)
        self._in_spec = program.call_spec.in_spec

    def run(self, inputs: Mapping[str, Array]) -> Arrays:
        """Compute all outputs by name; the copies back wait for the GPU."""
        tensors = [
            torch.from_numpy(np.require(inputs[spec.name], requirements=("C", "W"))).to("cuda")
            for spec in self.signature.inputs
        ]
        arguments, named = pytree.tree_unflatten(tensors, self._in_spec)
        with torch.inference_mode():
            results = pytree.tree_leaves(self._module(*arguments, **named))
        return {
            spec.name: np.ascontiguousarray(result.cpu().numpy())
            for spec, result in zip(self.signature.outputs, results, strict=True)
        }

    def close(self) -> None:
        """Free the weights and engines."""
        del self._module
