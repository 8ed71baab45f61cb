"""Quantized layers: what ModelOpt simulates is what they compute, for every kind of layer."""

import copy

import modelopt.torch.quantization as mtq
import pytest
import torch
from torch import Tensor, fx, nn
from torch.export import Dim

from registry.errors import CandidateError
from tasks.optimizer.lifting import lift
from tasks.optimizer.modelopt_layers import (
    QuantizedLayer,
    check_layers,
    int8_quantizers,
    lowest_inputs,
    put_quantized_layers,
    smoothable_layers,
)

SERIES, IMAGES, ROWS = (16, 4, 9), (16, 4, 6, 6), (16, 8)
KINDS = {
    "linear": (nn.Linear(8, 3), ROWS),
    "conv1d": (nn.Conv1d(4, 6, 3, stride=2, padding=1), SERIES),
    "conv2d-grouped": (nn.Conv2d(4, 8, 3, groups=2, padding="same"), IMAGES),
    "conv2d-depthwise": (nn.Conv2d(4, 4, 3, groups=4, bias=False), IMAGES),
    "transposed1d": (nn.ConvTranspose1d(4, 6, 3, stride=2, output_padding=1, dilation=2), SERIES),
    "transposed2d-grouped": (nn.ConvTranspose2d(4, 6, 3, groups=2, bias=False), IMAGES),
}


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(4, 4, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.lstm(x)[0][:, -1]


def lifted(module: nn.Module, x: Tensor) -> fx.GraphModule:
    return lift(torch.export.export(module.eval(), (x,), dynamic_shapes=({0: Dim("batch")},))).module


def quantized(module: fx.GraphModule, x: Tensor, algorithm: object = "max", *, reduce_range: bool = False) -> nn.Module:
    """Quantize a module in place and return what ModelOpt made of its copy."""
    configuration = {"quant_cfg": int8_quantizers(), "algorithm": algorithm}
    twin = copy.deepcopy(module)
    with torch.no_grad(), lowest_inputs(twin) as lowest:
        calibrated: nn.Module = mtq.quantize(twin, configuration, lambda net: net(x))
    put_quantized_layers(module, calibrated, lowest, reduce_range=reduce_range)
    return calibrated


@pytest.mark.parametrize("kind", KINDS)
def test_a_layer_computes_what_modelopt_simulates(kind: str) -> None:
    layer, shape = KINDS[kind]
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    module = lifted(nn.Sequential(layer), x)
    calibrated = quantized(module, x)
    replaced = module.get_submodule("0")
    assert isinstance(replaced, QuantizedLayer)
    assert replaced.weight.dtype is torch.int8
    torch.testing.assert_close(module(x)[0], calibrated(x)[0])
    wanted = layer(x)
    assert 0 < (module(x)[0] - wanted).abs().max() < 0.05 * wanted.std()


@pytest.mark.parametrize(("reduce_range", "largest"), [(False, 127), (True, 63)])
def test_weights_of_a_reduced_range_have_seven_bits(reduce_range: bool, largest: int) -> None:
    layer, shape = KINDS["linear"]
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    module = lifted(nn.Sequential(layer), x)
    quantized(module, x, reduce_range=reduce_range)
    replaced = module.get_submodule("0")
    assert isinstance(replaced, QuantizedLayer)
    assert replaced.weight.abs().max() == largest
    assert (module(x)[0] - layer(x)).abs().max() < 0.05 * layer(x).std()


def test_inputs_that_are_never_negative_are_rounded_twice_as_finely() -> None:
    layer, shape = KINDS["conv2d-grouped"]
    x = torch.rand(shape, generator=torch.Generator().manual_seed(0))
    module = lifted(nn.Sequential(layer), x)
    calibrated = quantized(module, x)
    replaced = module.get_submodule("0")
    assert isinstance(replaced, QuantizedLayer)
    assert replaced.input_scale == pytest.approx(float(x.max()) / 255)
    wanted = layer(x)
    assert (module(x)[0] - wanted).square().mean() < (calibrated(x)[0] - wanted).square().mean()


@pytest.mark.parametrize("bias", [True, False])
def test_smoothing_goes_into_the_layer_norm(bias: bool) -> None:
    outlier = torch.ones(8).index_fill(0, torch.tensor([3]), 40.0)
    x = torch.randn(64, 8, generator=torch.Generator().manual_seed(0))
    norm = nn.LayerNorm(8, bias=bias)
    norm.weight = nn.Parameter(outlier)
    net = nn.Sequential(norm, nn.Linear(8, 16))
    module, plain = lifted(net, x), lifted(net, x)
    assert smoothable_layers(module) == {"1": "0"}
    calibrated = quantized(module, x, {"method": "smoothquant", "alpha": 0.5})
    quantized(plain, x)
    torch.testing.assert_close(module(x)[0], calibrated(x)[0])
    wanted = net(x)
    assert (module(x)[0] - wanted).square().mean() < 0.3 * (plain(x)[0] - wanted).square().mean()


def test_a_layer_norm_that_others_take_as_well_cannot_scale() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm, self.layer = nn.LayerNorm(8), nn.Linear(8, 8)

        def forward(self, x: Tensor) -> Tensor:
            y = self.norm(x)
            return y + self.layer(y)

    assert smoothable_layers(lifted(Twice(), torch.randn(2, 8))) == {}
    assert smoothable_layers(lifted(nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8)), torch.randn(2, 8))) == {}


def test_what_cannot_be_quantized_is_told_with_what_there_is() -> None:
    with pytest.raises(CandidateError, match=r"no convolution or linear layer to quantize; it has LSTM$"):
        check_layers(lifted(Recurrent(), torch.randn(2, 5, 4)), (), ())
    module = lifted(nn.Sequential(nn.Linear(8, 3)), torch.randn(2, 8))
    with pytest.raises(CandidateError, match="'no_such'"):
        check_layers(module, ("no_such",), ())
    with pytest.raises(CandidateError, match="it has Linear"):
        check_layers(module, ("0",), ())
