"""A runtime that multiplies by the scale in the artifact, and does what its inputs say: crash, hang, take its time."""

import ctypes
import time
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import numpy as np
import onnx

from registry.plugins import knob
from registry.records.model import ArtifactFormat, Signature
from serving.runtime import Array, Arrays, Runtime, Session

CRASH = 666.0
HANG = 777.0


class OddRuntime(Runtime):
    """Loads the nets of these tests; odd on purpose."""

    consumes: ClassVar[frozenset[ArtifactFormat]] = frozenset({ArtifactFormat.ONNX})

    run_ms: int = knob(0, description="What a run takes at least; above 1 it leaves the event loop.")

    def load(self, folder: Path, artifact_format: ArtifactFormat, signature: Signature) -> Session:
        """Read the scale."""
        model = onnx.load(folder / artifact_format.main_file)
        return OddSession(float(onnx.numpy_helper.to_array(model.graph.initializer[0])), self.run_ms, signature)


class OddSession(Session):
    """One scale."""

    def __init__(self, scale: float, run_ms: int, signature: Signature) -> None:
        """Keep what to do."""
        super().__init__(signature, 1024)
        self._scale = np.float32(scale)
        self._run_ms = run_ms

    def run(self, inputs: Mapping[str, Array]) -> Arrays:
        """Multiply, unless the inputs say otherwise."""
        x = inputs["x"]
        if np.any(x == CRASH):
            ctypes.string_at(0)
        if np.any(x == HANG):
            time.sleep(3600)
        time.sleep(self._run_ms / 1000)
        return {"y": np.multiply(x, self._scale)}

    def close(self) -> None:
        """Hold nothing."""
