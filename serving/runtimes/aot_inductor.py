"""Machine code that AOTInductor compiled from an exported program; needs no compiler to run."""

import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch.utils import _pytree as pytree

from registry.errors import CandidateError
from registry.records.model import ArtifactFormat, Signature
from serving.memory import allocated_bytes
from serving.runtime import Array, Arrays, Runtime, Session, bytes_added

_MODEL = "model"
_NO_VECTORS = "invalid_vec_isa"
_Loader: Any = torch._C._aoti.AOTIModelPackageLoader


class AotInductor(Runtime):
    """The package's shared library, loaded without ``torch._inductor``.

    ``torch._inductor.aoti_load_package`` asks a C++ compiler what this CPU can do, which takes up to 20 s and needs the
    compiler; here the CPU's own flags are compared with those that the package was compiled for. The package's kernels
    keep the number of threads that it was compiled with; ``threads`` is for the library calls between them.

    Source: https://docs.pytorch.org/docs/2.13/torch.compiler_aot_inductor.html
    """

    consumes: ClassVar[frozenset[ArtifactFormat]] = frozenset({ArtifactFormat.AOTI_PACKAGE})

    def load(self, folder: Path, artifact_format: ArtifactFormat, signature: Signature) -> Session:
        """Open ``package.pt2``.

        Raises:
            CandidateError: it cannot be loaded, was compiled for another CPU or does not have the signature.
        """
        self.check_datatypes(signature)
        file = folder / artifact_format.main_file
        before = allocated_bytes()
        try:
            _check_cpu(_Loader.load_metadata_from_package(str(file), _MODEL), file)
            loader = _Loader(str(file), _MODEL, False, 1, -1)
        except RuntimeError as error:
            raise CandidateError(f"AOTInductor cannot load {file}: {error}") from error
        found = [pytree.treespec_loads(spec).num_leaves for spec in loader.get_call_spec()]
        if found != [len(signature.inputs), len(signature.outputs)]:
            raise CandidateError(
                f"{file} has {found[0]} inputs and {found[1]} outputs, but the signature is {signature}"
            )
        return AotInductorSession(loader, signature, bytes_added(before, folder), self.threads)


class AotInductorSession(Session):
    """A loaded package; inputs are taken in the signature's order."""

    shape_errors = (RuntimeError,)

    def __init__(self, loader: Any, signature: Signature, resident_bytes: int, threads: int) -> None:  # noqa: ANN401
        """Wrap a loaded package."""
        super().__init__(signature, resident_bytes)
        self._loader = loader
        self._threads = threads

    def run(self, inputs: Mapping[str, Array]) -> Arrays:
        """Compute all outputs by name."""
        if torch.get_num_threads() != self._threads:
            torch.set_num_threads(self._threads)
        with torch.inference_mode():
            results = self._loader.boxed_run([_plain_tensor(inputs[spec.name]) for spec in self.signature.inputs])
        return {
            spec.name: np.ascontiguousarray(result.numpy())
            for spec, result in zip(self.signature.outputs, results, strict=True)
        }

    def close(self) -> None:
        """Unload the library."""
        del self._loader


def _plain_tensor(array: Array) -> torch.Tensor:
    """Return a tensor with the strides that its shape implies.

    An axis of size 1 may have any stride in a contiguous array; NumPy's indexing can leave that of one number there.
    The compiled code does not look; a convolution then takes images of one channel for channels-last, returns another
    memory layout than was compiled for, and the answers are wrong.
    """
    tensor = torch.from_numpy(np.require(array, requirements=("C", "W")))
    return tensor.view(-1).view(tensor.shape)


def _check_cpu(compiled_for: Mapping[str, str], file: Path) -> None:
    machine = compiled_for.get("AOTI_MACHINE")
    if machine != platform.machine():
        raise CandidateError(f"{file} was compiled for {machine}, this machine is {platform.machine()}")
    capabilities = torch.cpu.get_capabilities()
    for extension in compiled_for.get("AOTI_CPU_ISA", "").lower().split():
        flag = "avx512_f" if extension == "avx512" else extension
        if extension != _NO_VECTORS and not capabilities.get(flag):
            raise CandidateError(
                f"{file} was compiled for a CPU with {extension}, which this one lacks; compile it here"
            )
