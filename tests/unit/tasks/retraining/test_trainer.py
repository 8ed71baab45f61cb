"""What is refused before a training starts."""

from pathlib import Path

import numpy as np
import pytest

from registry.errors import InputError
from registry.records.model import Datatype, Signature, TensorSpec
from tasks.retraining.trainer import Training, retrain

SIGNATURE = Signature(
    inputs=(TensorSpec(name="x", datatype=Datatype.FP32, shape=(None, 3)),),
    outputs=(TensorSpec(name="output_0", datatype=Datatype.FP32, shape=(None, 2)),),
)
ALLOWED = ("burnish.examples.digits:train", "other:train")


def refused(training: Training, folder: Path) -> str:
    with pytest.raises(InputError) as caught:
        retrain(training, allowed=ALLOWED, workspace=folder / "work")
    assert not (folder / "work").exists()
    return str(caught.value)


@pytest.mark.parametrize("function", ["os:system", "burnish.examples.digits:train_digits", "other:train "])
def test_a_function_that_is_not_allowed_is_never_called(function: str, tmp_path: Path) -> None:
    message = refused(Training(function, SIGNATURE, {"x": np.zeros((2, 3))}, np.zeros(2)), tmp_path)
    assert "allowed are: burnish.examples.digits:train, other:train" in message


def test_a_window_without_an_input_of_the_model_is_refused(tmp_path: Path) -> None:
    message = refused(Training(ALLOWED[0], SIGNATURE, {"y": np.zeros((2, 3))}, np.zeros(2)), tmp_path)
    assert "lacks the input 'x'" in message


@pytest.mark.parametrize(("samples", "labels"), [(3, 2), (0, 0)])
def test_every_sample_needs_its_label_and_one_is_needed(samples: int, labels: int, tmp_path: Path) -> None:
    message = refused(Training(ALLOWED[0], SIGNATURE, {"x": np.zeros((samples, 3))}, np.zeros(labels)), tmp_path)
    assert f"{samples} samples of 'x' and {labels} labels" in message
