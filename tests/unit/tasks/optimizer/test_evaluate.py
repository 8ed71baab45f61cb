from collections.abc import Callable, Mapping

import numpy as np
import pytest

from registry.errors import CandidateError
from registry.records.model import Datatype, Signature, TensorSpec
from serving.runtime import Array, Arrays, Session
from tasks.optimizer.evaluate import BATCH_SIZE, predict_all


class Recorder(Session):
    """Computes with a function and remembers the batch sizes it was given."""

    def __init__(self, axis: int | None, output: tuple[int | None, ...], compute: Callable[[Array], Array]) -> None:
        spec = TensorSpec(name="x", datatype=Datatype.FP32, shape=(axis, 2))
        out = TensorSpec(name="y", datatype=Datatype.FP32, shape=output)
        super().__init__(Signature(inputs=(spec,), outputs=(out,)), 0)
        self.compute = compute
        self.sizes: list[int] = []

    def run(self, inputs: Mapping[str, Array]) -> Arrays:
        self.sizes.append(len(inputs["x"]))
        return {"y": self.compute(inputs["x"])}

    def close(self) -> None:
        pass


SAMPLES = np.arange(2 * 70, dtype=np.float32).reshape(70, 2)


def test_a_varying_batch_is_run_in_batches_with_a_smaller_last_one() -> None:
    session = Recorder(None, (None, 2), lambda x: 2 * x)
    assert np.array_equal(predict_all(session, {"x": SAMPLES})["y"], 2 * SAMPLES)
    assert session.sizes == [BATCH_SIZE, BATCH_SIZE, 70 - 2 * BATCH_SIZE]


def test_a_fixed_batch_is_run_that_many_at_a_time() -> None:
    session = Recorder(7, (7, 2), lambda x: 2 * x)
    assert np.array_equal(predict_all(session, {"x": SAMPLES})["y"], 2 * SAMPLES)
    assert session.sizes == [7] * 10


def test_outputs_with_the_batch_elsewhere_are_run_sample_by_sample() -> None:
    session = Recorder(None, (2, None, 1), lambda x: x.T[:, :, None])
    found = predict_all(session, {"x": SAMPLES})["y"]
    assert found.shape == (70, 2, 1, 1)
    assert np.array_equal(found[:, :, 0, 0], SAMPLES)
    assert session.sizes == [1] * 70


def test_scalars_of_single_samples_are_stacked() -> None:
    session = Recorder(1, (), lambda x: x.sum())
    assert np.array_equal(predict_all(session, {"x": SAMPLES})["y"], SAMPLES.sum(1))


def test_an_output_that_belongs_to_no_sample_of_a_fixed_batch_is_refused() -> None:
    session = Recorder(7, (2,), lambda x: x.sum(0))
    with pytest.raises(CandidateError, match=r"'y' has the shape \[2\] for 7 samples"):
        predict_all(session, {"x": SAMPLES})
