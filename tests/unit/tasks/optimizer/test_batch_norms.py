"""Folding of batch norms: the same numbers with fewer layers, only where nothing else looks at what lies between."""

import pytest
import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from tasks.optimizer.batch_norms import fold_batch_norms
from tasks.optimizer.lifting import lift


class Shared(nn.Module):
    """A batch norm that a convolution shares its output with."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv1d(2, 2, 1)
        self.norm = nn.BatchNorm1d(2)

    def forward(self, x: Tensor) -> Tensor:
        y = self.layer(x)
        return self.norm(y) + y


def exported(module: nn.Module, example: Tensor) -> ExportedProgram:
    torch.manual_seed(0)
    for norm in (layer for layer in module.modules() if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d)):
        norm.running_mean, norm.running_var = torch.randn(norm.num_features), torch.rand(norm.num_features) + 0.5
        norm.weight = nn.Parameter(torch.rand(norm.num_features) + 0.5)
    return torch.export.export(module.eval(), (example,), dynamic_shapes=({0: Dim("batch")},))


SERIES, IMAGES, ROWS = (3, 4, 9), (3, 4, 6, 6), (3, 8)


@pytest.mark.parametrize(
    ("module", "shape"),
    [
        (nn.Sequential(nn.Conv1d(4, 6, 3, bias=False), nn.BatchNorm1d(6), nn.ReLU()), SERIES),
        (nn.Sequential(nn.Conv2d(4, 8, 3, groups=4), nn.BatchNorm2d(8)), IMAGES),
        (nn.Sequential(nn.ConvTranspose1d(4, 6, 3), nn.BatchNorm1d(6)), SERIES),
        (nn.Sequential(nn.ConvTranspose2d(4, 2, 3, stride=2, bias=False), nn.BatchNorm2d(2)), IMAGES),
        (nn.Sequential(nn.Linear(8, 5), nn.BatchNorm1d(5)), ROWS),
    ],
)
def test_folding_removes_batch_norms_and_keeps_results(module: nn.Module, shape: tuple[int, ...]) -> None:
    program = exported(module, torch.randn(shape))
    folded = lift(program).module
    assert fold_batch_norms(folded) == 1
    assert not any(isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d) for layer in folded.modules())
    x = torch.randn(5, *shape[1:])
    torch.testing.assert_close(folded(x)[0], program.module()(x))


@pytest.mark.parametrize(
    ("module", "shape"),
    [
        (Shared(), (2, 2, 5)),
        (nn.Sequential(nn.ConvTranspose2d(4, 4, 3, groups=2), nn.BatchNorm2d(4)), IMAGES),
        (nn.Sequential(nn.Linear(9, 5), nn.BatchNorm1d(4)), SERIES),  # its channels are axis 1, the layer's the last
        (nn.Sequential(nn.BatchNorm1d(8), nn.Linear(8, 5)), ROWS),
        (nn.Sequential(nn.Conv1d(4, 6, 3), nn.ReLU(), nn.BatchNorm1d(6)), SERIES),
    ],
)
def test_folding_leaves_what_it_would_change(module: nn.Module, shape: tuple[int, ...]) -> None:
    program = exported(module, torch.randn(shape))
    folded = lift(program).module
    assert fold_batch_norms(folded) == 0
    x = torch.randn(5, *shape[1:])
    assert torch.equal(folded(x)[0], program.module()(x))
