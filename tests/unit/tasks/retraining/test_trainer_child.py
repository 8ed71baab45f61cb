"""The work of the child process, done here: what the function is given, and what is exported."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from registry.errors import InputError
from registry.records.model import Datatype, Signature, TensorSpec
from tasks.optimizer.source_program import program_signature
from tasks.retraining.trainer import INPUT_PREFIX, LABELS, PROGRAM_FILE, WINDOW_FILE
from tasks.retraining.trainer_child import work


class Net(nn.Module):
    def __init__(self, window: Mapping[str, np.ndarray], labels: np.ndarray, seed: int) -> None:
        super().__init__()
        self.mean = nn.Parameter(torch.tensor([float(window["a"].mean()), float(labels.mean()), float(seed)]))
        self.drop = nn.Dropout(0.5)

    def forward(self, b: torch.Tensor, a: torch.Tensor) -> torch.Tensor:
        """Takes its inputs in another order than the signature."""
        return self.drop(a + b.sum(dim=1, keepdim=True)) * 0 + self.mean


class Other(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Names its input otherwise."""
        return x


def train(window: Mapping[str, np.ndarray], labels: np.ndarray, seed: int) -> nn.Module:
    return Net(window, labels, seed)


def train_other(*_: object) -> nn.Module:
    return Other()


def train_nothing(*_: object) -> str:
    return "weights"


def spec(name: str, *shape: int | None) -> TensorSpec:
    return TensorSpec(name=name, datatype=Datatype.FP32, shape=shape)


def run(
    function: str,
    folder: Path,
    *,
    inputs: tuple[TensorSpec, ...] = (spec("a", None, 3), spec("b", None, None)),
    samples: int = 4,
) -> torch.export.ExportedProgram:
    arrays = {f"{INPUT_PREFIX}{one.name}": np.full((samples, one.shape[1] or 5), 2, np.float32) for one in inputs}
    np.savez(folder / WINDOW_FILE, **arrays, **{LABELS: np.full(samples, 7)})  # type: ignore[arg-type]
    signature = Signature(inputs=inputs, outputs=(spec("output_0", None, 3),))
    job = {"function": f"{__name__}:{function}", "signature": signature.model_dump(mode="json"), "seed": 11}
    work(job, folder)
    return torch.export.load(folder / PROGRAM_FILE)


@pytest.mark.parametrize("samples", [1, 4])
def test_the_function_sees_window_labels_and_seed_and_its_network_varies_as_the_model_does(
    samples: int, tmp_path: Path
) -> None:
    program = run("train", tmp_path, samples=samples)
    shapes = {one.name: one.shape for one in program_signature(program).inputs}
    assert shapes == {"a": (None, 3), "b": (None, None)}
    answers = program.module()(torch.zeros(3, 9), torch.zeros(3, 3))
    assert answers.tolist() == [[2, 7, 11]] * 3


def test_a_fixed_batch_stays_fixed(tmp_path: Path) -> None:
    program = run("train", tmp_path, inputs=(spec("a", 1, 3), spec("b", 1, 5)))
    shapes = {one.name: one.shape for one in program_signature(program).inputs}
    assert shapes == {"a": (1, 3), "b": (1, 5)}


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        ("train_other", r"forward takes \(x\), the model's inputs are \(a, b\)"),
        ("train_nothing", "returned a str"),
        ("train_nowhere", "has no 'train_nowhere'"),
    ],
)
def test_what_cannot_serve_the_model_is_named(function: str, reason: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=reason):
        run(function, tmp_path)


def test_a_module_that_is_not_installed_is_named(tmp_path: Path) -> None:
    np.savez(tmp_path / WINDOW_FILE, **{f"{INPUT_PREFIX}a": np.zeros((1, 3)), LABELS: np.zeros(1)})  # type: ignore[arg-type]
    signature = Signature(inputs=(spec("a", None, 3),), outputs=(spec("output_0", None, 3),))
    job = {"function": "no_such_module:train", "signature": signature.model_dump(mode="json"), "seed": 0}
    with pytest.raises(InputError, match="No module named 'no_such_module'; install the module where Burnish runs"):
        work(job, tmp_path)
