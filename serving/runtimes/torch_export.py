"""PyTorch running an exported program operator by operator: the baseline of every PyTorch source."""

import io
import json
import pickle
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from torch.export import ExportedProgram
from torch.utils import _pytree as pytree

from registry.errors import CandidateError
from registry.records.model import ArtifactFormat, Signature
from serving.runtime import Array, Arrays, Runtime, Session, bytes_added, resident_set_bytes

_SAMPLE_INPUTS = "data/sample_inputs/model.pt"
_PAYLOADS = ("data/weights/model_weights_config.json", "data/constants/model_constants_config.json")
_PLAIN_MEMBER = re.compile(
    r"models/model\.json|data/weights/weight_\d+|data/constants/tensor_\d+"
    r"|archive_format|archive_version|byteorder|\.data/version|\.data/serialization_id"
)


class TorchExport(Runtime):
    """Eager execution of ``ExportedProgram.module()`` without gradients.

    It loads only what Burnish itself saved, and of that nothing that would be unpickled beyond plain tensors.

    Source: https://docs.pytorch.org/docs/2.13/export.html
    """

    consumes: ClassVar[frozenset[ArtifactFormat]] = frozenset({ArtifactFormat.EXPORTED_PROGRAM})
    reference_for: ClassVar[frozenset[ArtifactFormat]] = frozenset({ArtifactFormat.EXPORTED_PROGRAM})

    def load(self, folder: Path, artifact_format: ArtifactFormat, signature: Signature) -> Session:
        """Open ``model.pt2``.

        Raises:
            CandidateError: the file cannot be loaded, holds more than tensors or does not have the signature.
        """
        file = folder / artifact_format.main_file
        before = resident_set_bytes()
        try:
            _refuse_pickles(file)
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
    """An unlifted exported program; inputs are taken in the signature's order."""

    def __init__(self, program: ExportedProgram, signature: Signature, resident_bytes: int, threads: int) -> None:
        """Wrap a loaded program."""
        super().__init__(signature, resident_bytes)
        self._module = program.module(check_guards=False)
        self._in_spec = program.call_spec.in_spec
        self._threads = threads

    def run(self, inputs: Mapping[str, Array]) -> Arrays:
        """Compute all outputs by name."""
        if torch.get_num_threads() != self._threads:
            torch.set_num_threads(self._threads)
        tensors = [
            torch.from_numpy(np.require(inputs[spec.name], requirements=("C", "W"))) for spec in self.signature.inputs
        ]
        arguments, named = pytree.tree_unflatten(tensors, self._in_spec)
        with torch.inference_mode():
            results = pytree.tree_leaves(self._module(*arguments, **named))
        return {
            spec.name: np.ascontiguousarray(result.numpy())
            for spec, result in zip(self.signature.outputs, results, strict=True)
        }

    def close(self) -> None:
        """Free the weights."""
        del self._module


def _refuse_pickles(file: Path) -> None:
    """Refuse an archive that ``torch.export.load`` would unpickle freely, by its present or its older formats.

    Raises:
        CandidateError: it holds objects, unknown members, or example inputs that are not plain tensors.
    """
    with zipfile.ZipFile(file) as archive:
        for member in archive.namelist():
            name = member.partition("/")[2]
            if name == _SAMPLE_INPUTS:
                try:
                    torch.load(io.BytesIO(archive.read(member)), weights_only=True)
                except pickle.UnpicklingError as error:
                    raise CandidateError(f"the example inputs of {file} are not plain tensors: {error}") from error
            elif name in _PAYLOADS:
                payloads = json.loads(archive.read(member))["config"]
                if any(payload["use_pickle"] for payload in payloads.values()):
                    raise CandidateError(f"{file} holds pickled tensors; only plain ones are loaded")
            elif not _PLAIN_MEMBER.fullmatch(name):
                raise CandidateError(f"{file} holds {member}, which is not of a program of plain tensors")
