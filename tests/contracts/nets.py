"""Tiny networks of the kinds that the plug-ins must cope with, each made and exported in a fraction of a second.

Shape legend: B batch, C channels, H height, W width, T time, F features.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from registry.records.model import ArtifactFormat, Signature
from serving.runtime import Arrays
from tasks.optimizer.base import Artifact
from tasks.optimizer.source_program import program_signature

SAMPLES = 64


class ResidualBlock(nn.Module):
    """Two convolutions with batch norm beside a shortcut."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(channels)

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        y_BCHW = torch.relu(self.norm1(self.conv1(x_BCHW)))
        return torch.relu(x_BCHW + self.norm2(self.conv2(y_BCHW)))


class ResidualNet(nn.Module):
    """A residual CNN on 8 x 8 images."""

    def __init__(self, channels: int = 16) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, channels, 3, padding=1)
        self.block = ResidualBlock(channels)
        self.down = nn.Conv2d(channels, 2 * channels, 3, stride=2, padding=1)
        self.norm = nn.BatchNorm2d(2 * channels)
        self.head = nn.Linear(2 * channels, 10)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        x_BCHW = self.block(torch.relu(self.stem(image)))
        x_BCHW = torch.relu(self.norm(self.down(x_BCHW)))
        logits: torch.Tensor = self.head(x_BCHW.mean((2, 3)))
        return logits


class Conv1dNet(nn.Module):
    """A 1-D CNN on two channels of 32 steps, in groups at first, flattened at last."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv1d(2, 16, 5, padding=2, groups=2)
        self.norm = nn.BatchNorm1d(16)
        self.second = nn.Conv1d(16, 32, 3, padding=1)
        self.pool = nn.MaxPool1d(4)
        self.head = nn.Linear(32 * 8, 4)

    def forward(self, series: torch.Tensor) -> torch.Tensor:
        x_BCT = torch.relu(self.norm(self.first(series)))
        x_BCT = self.pool(torch.relu(self.second(x_BCT)))
        logits: torch.Tensor = self.head(x_BCT.flatten(1))
        return logits


class EncoderNet(nn.Module):
    """One transformer encoder layer over 6 embedded tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(20, 16)
        layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)
        self.head = nn.Linear(16, 3)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.head(self.encoder(self.embedding(tokens)).mean(1))
        return logits


class LstmNet(nn.Module):
    """An LSTM over 7 steps; a dictionary of two results."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(4, 16, batch_first=True)
        self.head = nn.Linear(16, 3)

    def forward(self, series: torch.Tensor) -> dict[str, torch.Tensor]:
        x_BTF, _ = self.lstm(series)
        return {"logits": self.head(x_BTF[:, -1]), "level": x_BTF.mean(1)}


def mlp() -> nn.Module:
    """Two hidden layers on 8 columns."""
    return nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 3))


@dataclass(frozen=True)
class Net:
    """How to make a network and its inputs."""

    build: Callable[[], nn.Module]
    input_name: str
    shape: tuple[int, ...]
    tokens: int = 0

    def inputs(self, samples: int = SAMPLES, seed: int = 0) -> Arrays:
        """Random inputs by name, axis 0 the samples."""
        generator = np.random.default_rng(seed)
        if self.tokens:
            return {self.input_name: generator.integers(0, self.tokens, (samples, *self.shape))}
        return {self.input_name: generator.normal(size=(samples, *self.shape)).astype(np.float32)}

    def module(self) -> nn.Module:
        """The network in eval mode, its batch norms used to its inputs."""
        torch.manual_seed(0)
        module = self.build().train()
        with torch.no_grad():
            for seed in range(5):
                module(torch.from_numpy(self.inputs(seed=seed)[self.input_name]))
        return module.eval()


NETS = {
    "mlp": Net(mlp, "input", (8,)),
    "conv1d": Net(Conv1dNet, "series", (2, 32)),
    "residual": Net(ResidualNet, "image", (1, 8, 8)),
    "encoder": Net(EncoderNet, "tokens", (6,), tokens=20),
    "lstm": Net(LstmNet, "series", (7, 4)),
}


def exported(name: str, folder: Path) -> tuple[Artifact, nn.Module]:
    """Write one network as an exported program with a dynamic batch; return it with the module itself."""
    net = NETS[name]
    module = net.module()
    example = torch.from_numpy(net.inputs(2)[net.input_name])
    program = torch.export.export(module, (example,), dynamic_shapes=({0: torch.export.Dim("batch")},))
    signature: Signature = program_signature(program)
    folder.mkdir(parents=True, exist_ok=True)
    torch.export.save(program, folder / ArtifactFormat.EXPORTED_PROGRAM.main_file)
    return Artifact(folder, ArtifactFormat.EXPORTED_PROGRAM, signature), module
