"""Small sessions in NumPy."""

from collections.abc import Callable, Mapping

import numpy as np

from registry.records.model import Datatype, Signature, TensorSpec
from serving.runtime import Array, Arrays, Session

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


def dense(x: Array) -> Array:
    """A linear layer, sample by sample: no answer depends on another sample."""
    return np.stack([row @ WEIGHTS for row in x])


def dense_dynamic_int8(x: Array) -> Array:
    """A linear layer whose input is quantized with one scale for the whole batch."""
    step = np.abs(x).max() / 127
    return np.asarray((np.round(x / step) * step) @ WEIGHTS, np.float32)
