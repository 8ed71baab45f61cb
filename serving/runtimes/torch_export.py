"""PyTorch running an exported program operator by operator: the baseline of every PyTorch source."""

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind, OutputKind

from registry.errors import CandidateError
from registry.records.model import ArtifactFormat, Datatype, Signature
from serving.memory import allocated_bytes
from serving.program_file import refuse_pickles
from serving.runtime import NUMBERS, Array, Arrays, Runtime, Session, bytes_added

_BFLOAT16 = np.dtype("bfloat16")


class TorchExport(Runtime):
    """Eager execution of an exported program's graph without gradients.

    The graph is called as it stands, weights and inputs as one flat list: ``ExportedProgram.module()`` would look every
    weight up by its path and take the arguments' tree apart at each call, which took longer than a small network.

    It loads only what Burnish itself saved, and of that nothing that would be unpickled beyond plain tensors.

    Source: https://docs.pytorch.org/docs/2.13/export.html
    """

    consumes: ClassVar[frozenset[ArtifactFormat]] = frozenset({ArtifactFormat.EXPORTED_PROGRAM})
    reference_for: ClassVar[frozenset[ArtifactFormat]] = frozenset({ArtifactFormat.EXPORTED_PROGRAM})
    datatypes: ClassVar[frozenset[Datatype]] = NUMBERS | {Datatype.BF16}

    def load(self, folder: Path, artifact_format: ArtifactFormat, signature: Signature) -> Session:
        """Open ``model.pt2``.

        Raises:
            CandidateError: the file cannot be loaded, holds more than tensors or does not have the signature.
        """
        self.check_datatypes(signature)
        file = folder / artifact_format.main_file
        before = allocated_bytes()
        try:
            refuse_pickles(file)
            program = torch.export.load(file)
        except (OSError, AssertionError, RuntimeError, ValueError, KeyError, zipfile.BadZipFile) as error:
            raise CandidateError(f"torch.export cannot load {file}: {error}") from error
        found = list(program.graph_signature.user_inputs)
        if found != [spec.name for spec in signature.inputs]:
            raise CandidateError(f"{file} takes {found}, but the signature takes {signature.inputs}")
        if len(program.graph_signature.user_outputs) != len(signature.outputs):
            raise CandidateError(f"{file} returns {program.graph_signature.user_outputs}, not {signature.outputs}")
        return TorchExportSession(program, signature, bytes_added(before, folder), self.threads)


class TorchExportSession(Session):
    """A loaded program's graph with its weights; inputs are taken in the signature's order."""

    value_errors, shape_errors = (IndexError,), (RuntimeError,)

    def __init__(self, program: ExportedProgram, signature: Signature, resident_bytes: int, threads: int) -> None:
        """Wrap a loaded program."""
        super().__init__(signature, resident_bytes)
        self._graph = program.graph_module
        stored = {**program.state_dict, **program.constants}
        specs = program.graph_signature.input_specs
        self._arguments = [None if spec.kind is InputKind.USER_INPUT else stored[str(spec.target)] for spec in specs]
        self._inputs = [place for place, spec in enumerate(specs) if spec.kind is InputKind.USER_INPUT]
        kinds = [spec.kind for spec in program.graph_signature.output_specs]
        self._outputs = [place for place, kind in enumerate(kinds) if kind is OutputKind.USER_OUTPUT]
        self._threads = threads

    def run(self, inputs: Mapping[str, Array]) -> Arrays:
        """Compute all outputs by name."""
        if torch.get_num_threads() != self._threads:
            torch.set_num_threads(self._threads)
        arguments = self._arguments.copy()
        for place, spec in zip(self._inputs, self.signature.inputs, strict=True):
            arguments[place] = _tensor(inputs[spec.name])
        with torch.inference_mode():
            results = self._graph.forward(*arguments)
        return {
            spec.name: np.ascontiguousarray(_array(results[place]))
            for place, spec in zip(self._outputs, self.signature.outputs, strict=True)
        }

    def close(self) -> None:
        """Free the weights."""
        del self._graph, self._arguments


def _tensor(array: Array) -> torch.Tensor:
    array = np.require(array, requirements=("C", "W"))
    if array.dtype == _BFLOAT16:  # which neither library takes from the other, but for its bits
        return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(array)


def _array(tensor: torch.Tensor) -> Array:
    if tensor.dtype is torch.bfloat16:
        return tensor.contiguous().view(torch.int16).numpy().view(_BFLOAT16)
    return tensor.numpy()
