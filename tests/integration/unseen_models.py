"""Models that no other test knows, trained for a moment on made-up data, exported with a batch that varies."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from serving.runtime import Array
from tasks.optimizer.dataset import Dataset, save_dataset

SAMPLES = 400


class Tabular(nn.Sequential):
    """An MLP on 12 columns."""

    def __init__(self) -> None:
        super().__init__(nn.Linear(12, 64), nn.ReLU(), nn.Linear(64, 64), nn.GELU(), nn.Linear(64, 3))


class Waves(nn.Module):
    """A 1-D convolution over 2 channels of 64 points."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv1d(2, 16, 5, padding=2),
            nn.BatchNorm1d(16),
            nn.ReLU(),
            nn.MaxPool1d(4),
            nn.Conv1d(16, 32, 3),
            nn.ReLU(),
        )
        self.head = nn.Linear(32, 3)

    def forward(self, wave: torch.Tensor) -> torch.Tensor:
        return self.head(self.body(wave).mean(2))


class Encoder(nn.Module):
    """A small transformer encoder over 16 tokens of a vocabulary of 50."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(50, 32)
        layer = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True, dropout=0.0)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(32, 3)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.head(self.encoder(self.embedding(tokens)).mean(1))


class Recurrent(nn.Module):
    """An LSTM over 20 steps of 6 features."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(6, 24, batch_first=True)
        self.head = nn.Linear(24, 3)

    def forward(self, steps: torch.Tensor) -> torch.Tensor:
        return self.head(self.lstm(steps)[0][:, -1])


@dataclass(frozen=True)
class Unseen:
    """The files that a user would have."""

    model: Path
    evaluation: Path
    calibration: Path


_SHAPES: dict[str, tuple[Callable[[], nn.Module], str, tuple[int, ...]]] = {
    "tabular": (Tabular, "input", (12,)),
    "waves": (Waves, "wave", (2, 64)),
    "encoder": (Encoder, "tokens", (16,)),
    "recurrent": (Recurrent, "steps", (20, 6)),
}


def write_unseen(name: str, folder: Path) -> Unseen:
    """Train one of the models until its classes are well apart, export it and write its sets."""
    make, input_name, shape = _SHAPES[name]
    torch.manual_seed(0)
    generator = np.random.default_rng(0)
    inputs, labels = _samples(generator, name, shape)
    module = make()
    _train(module, torch.from_numpy(inputs), torch.from_numpy(labels))
    folder.mkdir(parents=True, exist_ok=True)
    files = Unseen(folder / "model.pt2", folder / "evaluation.npz", folder / "calibration.npz")
    exported = torch.export.export(
        module.eval(), (torch.from_numpy(inputs[:2]),), dynamic_shapes=({0: torch.export.Dim("batch")},)
    )
    torch.export.save(exported, files.model)
    save_dataset(Dataset({input_name: inputs[:SAMPLES]}, labels[:SAMPLES]), files.evaluation)
    save_dataset(Dataset({input_name: inputs[SAMPLES:]}), files.calibration)
    return files


def _samples(generator: np.random.Generator, name: str, shape: tuple[int, ...]) -> tuple[Array, Array]:
    """Classes are shifted copies of noise (or shifted ranges of tokens)."""
    labels = generator.integers(0, 3, SAMPLES + 200)
    if name == "encoder":
        tokens = generator.integers(0, 30, (len(labels), *shape)) + 10 * labels[:, None]
        return tokens.astype(np.int64), labels
    offsets = generator.normal(size=(3, *shape))
    return (generator.normal(size=(len(labels), *shape)) + 1.5 * offsets[labels]).astype(np.float32), labels


def _train(module: nn.Module, inputs: torch.Tensor, labels: torch.Tensor) -> None:
    optimizer = torch.optim.Adam(module.parameters(), 3e-3)
    for _ in range(60):
        optimizer.zero_grad()
        nn.functional.cross_entropy(module(inputs), labels).backward()
        optimizer.step()
