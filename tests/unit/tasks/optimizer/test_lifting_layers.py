"""Lifting, kind by kind: a module of the right class with the right options, and the same numbers."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from tasks.optimizer.lifting import lift

Call = Callable[[Any, Tensor], Tensor | tuple[Tensor, ...]]


class Calls(nn.Module):
    """One layer, called through a function."""

    def __init__(self, layer: nn.Module, call: Call) -> None:
        super().__init__()
        self.layer, self.call = layer, call

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, ...]:
        return self.call(self.layer, x)


class Owner(nn.Module):
    """A module that holds a weight and, inside of itself, another layer."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(4, 4))
        self.inner = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(nn.functional.linear(x, self.weight))


def plain(layer: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    return layer(x)


def all_states(layer: nn.LSTM, x: Tensor) -> tuple[Tensor, ...]:
    y, (h, c) = layer(x)
    return y, h, c


def from_given_states(layer: nn.LSTM, x: Tensor) -> tuple[Tensor, ...]:
    states = x.new_ones(layer.num_layers, x.shape[0], layer.hidden_size)
    y, (h, _) = layer(x, (states, 2 * states))
    return h, y.mean(1)


def exported(module: nn.Module, example: Tensor) -> ExportedProgram:
    return torch.export.export(module.eval(), (example,), dynamic_shapes=({0: Dim("batch")},))


SERIES, IMAGES, ROWS = (3, 4, 9), (3, 4, 6, 6), (3, 5, 8)
CASES: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], Call]] = {
    "conv1d": (lambda: nn.Conv1d(4, 6, 3, stride=2, padding=1, dilation=2), SERIES, plain),
    "conv1d-same": (lambda: nn.Conv1d(4, 6, 4, padding="same", bias=False), SERIES, plain),
    "conv2d": (lambda: nn.Conv2d(4, 6, (3, 1), stride=(1, 2), padding=(1, 0)), IMAGES, plain),
    "conv2d-grouped": (lambda: nn.Conv2d(4, 8, 3, groups=2), IMAGES, plain),
    "conv2d-depthwise": (lambda: nn.Conv2d(4, 8, 3, groups=4, bias=False), IMAGES, plain),
    "transposed1d": (lambda: nn.ConvTranspose1d(4, 6, 3, stride=3, output_padding=2), SERIES, plain),
    "transposed1d-grouped": (lambda: nn.ConvTranspose1d(4, 6, 3, groups=2, dilation=2), SERIES, plain),
    "transposed2d": (lambda: nn.ConvTranspose2d(4, 2, (2, 3), stride=2, padding=1, bias=False), IMAGES, plain),
    "transposed2d-depthwise": (lambda: nn.ConvTranspose2d(4, 4, 2, groups=4), IMAGES, plain),
    "linear": (lambda: nn.Linear(8, 3), ROWS, plain),
    "linear-no-bias": (lambda: nn.Linear(8, 3, bias=False), ROWS, plain),
    "batch-norm1d": (lambda: nn.BatchNorm1d(4, eps=1e-2), SERIES, plain),
    "batch-norm2d": (lambda: nn.BatchNorm2d(4, momentum=0.3), IMAGES, plain),
    "layer-norm": (lambda: nn.LayerNorm(8, eps=1e-3), ROWS, plain),
    "layer-norm-two-axes": (lambda: nn.LayerNorm((5, 8), bias=False), ROWS, plain),
    "group-norm": (lambda: nn.GroupNorm(2, 4, eps=1e-3), IMAGES, plain),
    "lstm": (lambda: nn.LSTM(8, 6, batch_first=True), ROWS, all_states),
    "lstm-two-ways": (lambda: nn.LSTM(8, 6, num_layers=2, bidirectional=True, batch_first=True), ROWS, all_states),
    "lstm-states": (lambda: nn.LSTM(8, 6, bias=False, batch_first=True), ROWS, from_given_states),
    "gru": (lambda: nn.GRU(8, 6, num_layers=2, batch_first=True), ROWS, plain),
}


@pytest.mark.parametrize("case", CASES)
def test_a_call_becomes_its_module_again(case: str) -> None:
    build, shape, call = CASES[case]
    torch.manual_seed(0)
    layer, x = build(), torch.randn(shape)
    for tensor in layer.state_dict().values():
        if tensor.is_floating_point():
            tensor.copy_(torch.rand_like(tensor) - 0.3 if tensor.min() != tensor.max() else torch.rand_like(tensor))
    program = exported(Calls(layer, call), x)
    lifted = lift(program)
    assert lifted.lifted == ("layer",)
    assert lifted.left == ()
    found = lifted.module.get_submodule("layer")
    assert type(found) is type(layer)
    assert found.extra_repr() == layer.extra_repr()
    assert not any(tensor.is_meta for tensor in lifted.module.state_dict().values())
    many = torch.randn(7, *shape[1:])
    wanted = torch.utils._pytree.tree_leaves(program.module()(many))
    for got, expected in zip(lifted.module(many), wanted, strict=True):
        assert torch.equal(got, expected)


def test_an_embedding_becomes_its_module_again() -> None:
    program = exported(Calls(nn.Embedding(9, 4, padding_idx=2), plain), torch.zeros(2, 3, dtype=torch.int64))
    lifted = lift(program)
    embedding = lifted.module.get_submodule("layer")
    assert isinstance(embedding, nn.Embedding)
    assert embedding.padding_idx == 2
    tokens = torch.tensor([[0, 8, 2], [1, 1, 4], [5, 6, 7]])
    assert torch.equal(lifted.module(tokens)[0], program.module()(tokens))


def test_gradients_reach_the_weights_of_every_kind() -> None:
    for case in ("transposed2d", "layer-norm", "group-norm", "lstm-two-ways"):
        build, shape, call = CASES[case]
        module = lift(exported(Calls(build(), call), torch.randn(shape))).module
        for parameter in module.parameters():
            parameter.requires_grad_()
        torch.stack([value.sum() for value in module(torch.randn(shape))]).sum().backward()
        assert all(parameter.grad is not None for parameter in module.parameters())


@pytest.mark.parametrize(
    ("layer", "shape", "call"),
    [
        (nn.InstanceNorm2d(4, affine=True), IMAGES, "aten.instance_norm.default(layer.weight)"),
        (nn.PReLU(4), IMAGES, "aten.prelu.default(layer.weight)"),
        (nn.Conv3d(4, 2, 1), (3, 4, 2, 2, 2), "aten.conv3d.default(layer.weight)"),
        (nn.RMSNorm(8), ROWS, "aten.rms_norm.default(layer.weight)"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else "",
)
def test_what_cannot_be_lifted_stays_and_is_told(layer: nn.Module, shape: tuple[int, ...], call: str) -> None:
    program = exported(Calls(layer, plain), torch.randn(shape))
    lifted = lift(program)
    assert lifted.lifted == ()
    assert lifted.left == (call,)
    x = torch.randn(shape)
    assert torch.equal(lifted.module(x)[0], program.module()(x))


def test_an_lstm_with_a_projection_stays() -> None:
    lifted = lift(exported(Calls(nn.LSTM(8, 6, proj_size=3, batch_first=True), all_states), torch.randn(ROWS)))
    assert lifted.left == ("aten.lstm.input(layer.weight_ih_l0)",)


def test_a_layer_that_is_the_whole_program_has_a_path() -> None:
    program = exported(nn.Linear(8, 3), torch.randn(2, 8))
    lifted = lift(program)
    assert lifted.lifted == ("weight_lifted",)
    x = torch.randn(5, 8)
    assert torch.equal(lifted.module(x)[0], program.module()(x))


def test_a_layer_inside_of_a_module_with_a_weight_is_not_lost() -> None:
    program = exported(Calls(Owner(), plain), torch.randn(2, 4))
    lifted = lift(program)
    assert set(lifted.lifted) == {"layer_lifted", "layer.inner"}
    x = torch.randn(5, 4)
    assert torch.equal(lifted.module(x)[0], program.module()(x))
