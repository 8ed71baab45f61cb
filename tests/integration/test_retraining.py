"""A real training in its own process: the digits example learns from what was served; every bad end is told."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch

from burnish.examples.digits import load_digits_split, predict_digits, train_digits
from registry.errors import InputError
from registry.records.model import Datatype, Signature, TensorSpec
from tasks.retraining.trainer import Training, retrain

SPLIT = load_digits_split()
INVERTED = 1 - SPLIT.evaluation_x
SIGNATURE = Signature(
    inputs=(TensorSpec(name="image", datatype=Datatype.FP32, shape=(None, 1, 8, 8)),),
    outputs=(TensorSpec(name="output_0", datatype=Datatype.FP32, shape=(None, 10)),),
)


def accuracy(net: torch.nn.Module, images: npt.NDArray[np.float32], labels: npt.NDArray[np.int64]) -> float:
    return float((predict_digits(net, images) == labels).mean())


def test_the_new_network_has_learned_the_window(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))  # where the child finds the function
    window, unseen = slice(0, 449), slice(449, None)
    training = Training(
        "tests.integration.short_training:train",
        SIGNATURE,
        {"image": INVERTED[window]},
        SPLIT.evaluation_y[window],
        timeout_s=120,
    )
    path = retrain(training, allowed=(training.function,), workspace=tmp_path)
    trained = torch.export.load(path).module()
    ignoring = train_digits(0, epochs=6)
    assert accuracy(ignoring, INVERTED[unseen], SPLIT.evaluation_y[unseen]) < 0.6
    assert accuracy(trained, INVERTED[unseen], SPLIT.evaluation_y[unseen]) > 0.8
    assert accuracy(trained, SPLIT.evaluation_x[unseen], SPLIT.evaluation_y[unseen]) > 0.9


def failing(function: str, folder: Path, timeout_s: float = 60) -> str:
    training = Training(function, SIGNATURE, {"image": INVERTED[:4]}, SPLIT.evaluation_y[:4], timeout_s=timeout_s)
    with pytest.raises(InputError) as caught:
        retrain(training, allowed=(function,), workspace=folder)
    return str(caught.value)


def test_an_error_in_the_function_is_told_in_one_line_and_its_traceback_stays_in_the_log(tmp_path: Path) -> None:
    message = failing("math:sqrt", tmp_path)
    assert message.startswith("the training function math:sqrt failed: TypeError: ")
    assert "\n" not in message
    assert "Traceback" not in message
    assert "Traceback" in (tmp_path / "log.txt").read_text(encoding="utf-8")


def test_a_training_that_takes_too_long_is_ended(tmp_path: Path) -> None:
    message = failing("burnish.examples.digits:train", tmp_path, timeout_s=0.3)
    assert "took longer than 0.3 s and was killed" in message
