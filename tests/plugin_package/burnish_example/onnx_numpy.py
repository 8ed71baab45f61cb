"""ONNX's reference evaluator in plain NumPy: slow, for telling who is right when two runtimes differ."""

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from onnx.reference import ReferenceEvaluator

from registry.errors import CandidateError
from registry.plugins import knob
from registry.records.model import ArtifactFormat, Signature
from serving.memory import allocated_bytes
from serving.runtime import Array, Arrays, Runtime, Session, bytes_added


class OnnxNumpy(Runtime):
    """One evaluator an artifact; it has a single thread whatever ``threads`` says.

    Source: https://onnx.ai/onnx/api/reference.html
    """

    consumes: ClassVar[frozenset[ArtifactFormat]] = frozenset({ArtifactFormat.ONNX})

    verbose: int = knob(0, description="How much the evaluator tells while it computes.")

    def load(self, folder: Path, artifact_format: ArtifactFormat, signature: Signature) -> Session:
        """Open ``model.onnx``.

        Raises:
            CandidateError: the file cannot be loaded or lacks an output of the signature.
        """
        self.check_datatypes(signature)
        file = folder / artifact_format.main_file
        before = allocated_bytes()
        try:
            evaluator = ReferenceEvaluator(onnx.load(file), verbose=self.verbose)
        except (OSError, DecodeError, ValueError) as error:
            raise CandidateError(f"the reference evaluator cannot load {file}: {error}") from error
        missing = {spec.name for spec in signature.outputs} - set(evaluator.output_names)
        if missing:
            raise CandidateError(f"{file} has no output {', '.join(sorted(missing))}")
        return OnnxNumpySession(evaluator, signature, bytes_added(before, folder))


class OnnxNumpySession(Session):
    """An evaluator."""

    def __init__(self, evaluator: ReferenceEvaluator, signature: Signature, resident_bytes: int) -> None:
        """Wrap an evaluator."""
        super().__init__(signature, resident_bytes)
        self._evaluator = evaluator

    def run(self, inputs: Mapping[str, Array]) -> Arrays:
        """Compute all outputs by name."""
        names = [spec.name for spec in self.signature.outputs]
        results = self._evaluator.run(names, dict(inputs))
        return {name: np.ascontiguousarray(result) for name, result in zip(names, results, strict=True)}

    def close(self) -> None:
        """Free the graph."""
        del self._evaluator
