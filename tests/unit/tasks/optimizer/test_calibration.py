"""Batches of calibration samples."""

import numpy as np
import pytest

from registry.errors import CandidateError
from registry.records.model import Datatype, Signature, TensorSpec
from tasks.optimizer.calibration import calibration_batches


def signature(batch: int | None) -> Signature:
    spec = TensorSpec(name="x", datatype=Datatype.FP32, shape=(batch, 2))
    return Signature(inputs=(spec,), outputs=(spec,))


@pytest.mark.parametrize(
    ("batch", "count", "samples", "sizes"),
    [(None, 70, 512, [32, 32]), (None, 5, 512, [5]), (None, 70, 40, [32]), (4, 9, 512, [4, 4]), (1, 2, 512, [1, 1])],
)
def test_batches_have_one_size(batch: int | None, count: int, samples: int, sizes: list[int]) -> None:
    inputs = {"x": np.arange(2 * count, dtype=np.float32).reshape(count, 2)}
    batches = list(calibration_batches(inputs, signature(batch), samples))
    assert [len(batch["x"]) for batch in batches] == sizes
    np.testing.assert_array_equal(np.concatenate([batch["x"] for batch in batches]), inputs["x"][: sum(sizes)])


@pytest.mark.parametrize(("batch", "count"), [(None, 0), (8, 7)])
def test_too_few_samples_are_told(batch: int | None, count: int) -> None:
    with pytest.raises(CandidateError, match=f"has {count} samples"):
        list(calibration_batches({"x": np.zeros((count, 2), np.float32)}, signature(batch), 512))
