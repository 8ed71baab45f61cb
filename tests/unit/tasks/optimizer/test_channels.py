"""Which layers must keep their channels."""

import pytest
import torch
from torch import Tensor, nn

from tasks.optimizer.channels import fixed_layers
from tasks.optimizer.lifting import lift


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.inner, self.outer, self.head = (
            nn.Conv2d(1, 4, 3, padding=1),
            nn.Conv2d(4, 4, 1),
            nn.Conv2d(4, 4, 1),
            nn.Linear(4, 2),
        )

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.stem(x))
        x = x + self.outer(torch.relu(self.inner(x)))
        return self.head(x.mean((2, 3)))


class WithInput(nn.Module):
    """A layer's result is added to the input, so it must keep the input's channels."""

    def __init__(self) -> None:
        super().__init__()
        self.free, self.added, self.head = nn.Linear(4, 8), nn.Linear(8, 4), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(x + self.added(torch.relu(self.free(x))))


class WithHeads(nn.Module):
    """A layer's result is split into heads of a written-down size."""

    def __init__(self) -> None:
        super().__init__()
        self.split, self.join, self.head = nn.Linear(4, 8), nn.Linear(8, 4), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        heads = self.split(x).view(x.shape[0], 2, 4).transpose(1, 2).reshape(x.shape[0], 8)
        return self.head(torch.relu(self.join(heads)))


class InParts(nn.Module):
    """A layer's result is cut into parts of a written-down number."""

    def __init__(self) -> None:
        super().__init__()
        self.parts, self.join, self.head = nn.Linear(4, 16), nn.Linear(8, 4), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        first, second = self.parts(x).chunk(2, dim=-1)
        return self.head(torch.relu(self.join(first * second)))


class Grouped(nn.Module):
    def __init__(self, groups: int) -> None:
        super().__init__()
        self.first = nn.Conv1d(2, 4, 1)
        self.grouped, self.head = nn.Conv1d(4, 4, 3, groups=groups), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.grouped(self.first(x)).mean(2))


class Transposed(nn.Module):
    def __init__(self, groups: int) -> None:
        super().__init__()
        self.first = nn.Conv1d(2, 4, 1)
        self.up, self.head = nn.ConvTranspose1d(4, 4, 3, groups=groups), nn.Conv1d(4, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.relu(self.up(torch.relu(self.first(x)))))


class FeedForward(nn.Module):
    """An attention layer's neighbour in a transformer: its width is free, that of the stream around it is not."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.wide, self.narrow = nn.LayerNorm(4), nn.Linear(4, 16), nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.narrow(nn.functional.gelu(self.wide(self.norm(x))))


class AfterLstm(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.before, self.lstm = nn.Linear(4, 6), nn.LSTM(6, 8, batch_first=True)
        self.after, self.head = nn.Linear(8, 8), nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.relu(self.after(self.lstm(self.before(x))[0][:, -1])))


class AveragedChannels(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.head = nn.Conv1d(2, 4, 1), nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.first(x).mean(1))


class Positions(nn.Module):
    """A stored tensor is added to a layer's result."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.head = nn.Linear(4, 8), nn.Linear(8, 2)
        self.position = nn.Parameter(torch.zeros(8))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.first(x) + self.position)


@pytest.mark.parametrize(
    ("module", "shape", "fixed"),
    [
        (Residual(), (2, 1, 4, 4), {"head"}),
        (WithInput(), (2, 4), {"added", "head"}),
        (WithHeads(), (2, 4), {"split", "head"}),
        (InParts(), (2, 4), {"parts", "head"}),
        (Grouped(groups=4), (2, 2, 6), {"head"}),
        (Grouped(groups=2), (2, 2, 6), {"first", "grouped", "head"}),
        (AveragedChannels(), (2, 2, 6), {"first", "head"}),
        (Transposed(groups=1), (2, 2, 6), {"head"}),
        (Transposed(groups=2), (2, 2, 6), {"first", "up", "head"}),
        (FeedForward(), (2, 3, 4), {"narrow"}),
        (AfterLstm(), (2, 5, 4), {"before", "lstm", "head"}),
        (Positions(), (2, 4), {"first", "head"}),
    ],
    ids=lambda value: type(value).__name__,
)
def test_fixed_layers(module: nn.Module, shape: tuple[int, ...], fixed: set[str]) -> None:
    batch = torch.export.Dim("batch")
    program = torch.export.export(module.eval(), (torch.randn(shape),), dynamic_shapes=({0: batch},))
    lifted = lift(program).module
    names = {submodule: name for name, submodule in lifted.named_modules()}
    assert {names[layer] for layer in fixed_layers(lifted)} == fixed
