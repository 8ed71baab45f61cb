"""Small sessions in NumPy."""

from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt

from registry.records.model import Datatype, Signature, TensorSpec
from serving.runtime import Array, Arrays, Session

Floats = npt.NDArray[np.float32]
WEIGHTS = np.random.default_rng(0).normal(size=(8, 3)).astype(np.float32)


def dense_signature(batch: int | None = None) -> Signature:
    """[batch, 8] float32 in, [batch, 3] float32 out."""
    return Signature(
        inputs=(TensorSpec(name="x", datatype=Datatype.FP32, shape=(batch, 8)),),
        outputs=(TensorSpec(name="y", datatype=Datatype.FP32, shape=(batch, 3)),),
    )


class ArraySession(Session):
    """Computes its one output from its one input."""

    def __init__(self, function: Callable[[Array], Array], signature: Signature | None = None) -> None:
        super().__init__(signature or dense_signature(), resident_bytes=0)
        self.function = function
        self.batches: list[int] = []

    def run(self, inputs: Mapping[str, Array]) -> Arrays:
        self.batches.append(len(inputs["x"]))
        return {"y": self.function(inputs["x"])}

    def close(self) -> None:
        """Nothing to free."""


def dense(x: Array) -> Floats:
    """A linear layer, sample by sample: no answer depends on another sample."""
    return np.stack([row @ WEIGHTS for row in x.astype(np.float32)])


def dense_dynamic_int8(x: Array) -> Floats:
    """A linear layer whose input is quantized with one scale for the whole batch."""
    floats = x.astype(np.float32)
    step = np.abs(floats).max() / 127
    return np.asarray((np.round(floats / step) * step) @ WEIGHTS, np.float32)
