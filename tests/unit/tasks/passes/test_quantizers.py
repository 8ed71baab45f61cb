"""What the quantizing passes leave in float, how far they look at activations, and how small weights get."""

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import openvino
import pytest
from onnx import numpy_helper

from registry.records.model import PluginConfig
from tasks.optimizer.base import Artifact, PassContext, build_pass
from tasks.passes import quantize_static_int8
from tests.contracts.nets import NETS, exported


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    """A transformer encoder as an ONNX graph."""
    folder = tmp_path_factory.mktemp("encoder")
    source, _ = exported("encoder", folder / "source")
    (folder / "graph").mkdir()
    return build_pass(PluginConfig(name="export_onnx")).apply(source, PassContext(folder / "graph", source, {}))


def quantized(name: str, artifact: Artifact, folder: Path, **knobs: object) -> Artifact:
    folder.mkdir(exist_ok=True)
    step = build_pass(PluginConfig(name=name, knobs=knobs))
    return step.apply(artifact, PassContext(folder, artifact, NETS["encoder"].inputs()))


def kinds(artifact: Artifact) -> Counter[str]:
    return Counter(node.op_type for node in onnx.load(artifact.file).graph.node)


def test_a_layer_whose_weight_was_folded_stays_in_float_by_its_path(encoder: Artifact, tmp_path: Path) -> None:
    knobs = {"excluded_layers": ("encoder.layers.0.linear1",)}
    all_layers = kinds(quantized("quantize_dynamic_int8", encoder, tmp_path / "all"))
    without = kinds(quantized("quantize_dynamic_int8", encoder, tmp_path / "without", **knobs))
    assert without["MatMulInteger"] == all_layers["MatMulInteger"] - 1


def test_nncf_leaves_the_named_layer_in_float(encoder: Artifact, tmp_path: Path) -> None:
    def rounded(artifact: Artifact) -> int:
        return Counter(node.get_type_name() for node in openvino.Core().read_model(str(artifact.file)).get_ops())[
            "FakeQuantize"
        ]

    knobs = {"excluded_layers": ("encoder.layers.0.linear1", "head"), "samples": 32}
    all_layers = quantized("quantize_nncf", encoder, tmp_path / "all", samples=32)
    assert rounded(quantized("quantize_nncf", encoder, tmp_path / "without", **knobs)) < rounded(all_layers)


@pytest.mark.parametrize("calibrate", ["entropy", "percentile"])
def test_histograms_are_made_of_a_bounded_number_of_activations(
    calibrate: str, encoder: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []

    class Counted(quantize_static_int8.OneBatch):
        def __init__(self, batch: dict[str, np.ndarray]) -> None:
            seen.append(len(batch["tokens"]))
            super().__init__(batch)

    monkeypatch.setattr(quantize_static_int8, "OneBatch", Counted)
    monkeypatch.setattr(quantize_static_int8, "_HISTOGRAM_NUMBERS", 1)
    product = quantized("quantize_static_int8", encoder, tmp_path / "work", calibrate=calibrate)
    assert seen == [8]
    assert kinds(product)["QuantizeLinear"]


def test_four_bits_are_smaller_than_eight(encoder: Artifact, tmp_path: Path) -> None:
    eight, four = (
        quantized("quantize_weight_only", encoder, tmp_path / str(bits), bits=bits, block_size=16) for bits in (8, 4)
    )
    assert kinds(four)["MatMulNBits"] == kinds(eight)["MatMulNBits"] > 0
    assert four.ref().size_bytes < eight.ref().size_bytes


def test_products_alone_leave_the_rest_in_float(encoder: Artifact, tmp_path: Path) -> None:
    every = kinds(quantized("quantize_static_int8", encoder, tmp_path / "all"))
    products = kinds(quantized("quantize_static_int8", encoder, tmp_path / "products", operators="products"))
    assert 0 < products["QuantizeLinear"] < every["QuantizeLinear"]


@pytest.mark.parametrize("name", ["quantize_static_int8", "quantize_dynamic_int8", "quantize_modelopt_onnx"])
def test_weights_of_a_reduced_range_have_seven_bits(name: str, encoder: Artifact, tmp_path: Path) -> None:
    seven = largest_int8_weight(quantized(name, encoder, tmp_path / "seven", reduce_range=True))
    eight = largest_int8_weight(quantized(name, encoder, tmp_path / "eight", reduce_range=False))
    assert 60 < seven <= 64
    assert 120 < eight <= 128


def largest_int8_weight(artifact: Artifact) -> float:
    """The largest magnitude of an int8 weight, stored as such or as a float that the graph rounds when it is loaded."""
    graph = onnx.load(artifact.file).graph
    stored = {one.name: numpy_helper.to_array(one) for one in graph.initializer}
    found = [abs(array.astype(int)).max() for array in stored.values() if array.dtype == np.int8 and array.ndim > 1]
    for node in graph.node:
        if node.op_type == "QuantizeLinear" and node.input[0] in stored:
            scale = stored[node.input[1]]
            axis = next((one.i for one in node.attribute if one.name == "axis"), 1)
            weight = np.moveaxis(stored[node.input[0]], axis, -1) if scale.size > 1 else stored[node.input[0]]
            found.append(np.abs(weight / scale.reshape(-1)).max())
    return float(max(found))
