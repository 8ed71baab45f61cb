"""Sensitivity per layer: the layer that int8 damages leads, names are those that passes take, results are kept."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

from registry.errors import CandidateError
from registry.records.model import ArtifactFormat, PluginConfig
from registry.records.optimization import Sensitivity
from serving.runtime import Arrays, build_runtime
from tasks.optimizer.base import Artifact, PassContext, build_pass
from tasks.optimizer.cache import Cache
from tasks.optimizer.dataset import Dataset, save_dataset
from tasks.optimizer.evaluate import predict_all
from tasks.optimizer.fake_quantization import quantized
from tasks.optimizer.identity import Identity
from tasks.optimizer.isolation import Limits
from tasks.optimizer.onnx_layers import quantizable_layers
from tasks.optimizer.onnx_preparation import nodes_of_layers, prepare
from tasks.optimizer.sensitivity import measure_sensitivity
from tasks.optimizer.source_onnx import onnx_signature
from tests.contracts.nets import NETS, exported
from tests.unit.tasks.optimizer.layered import LAYERS, images, layered


def measured(source: Artifact, folder: Path, inputs: Arrays, timeout_s: float = 120) -> Sensitivity:
    calibration = folder / "calibration.npz"
    save_dataset(Dataset(inputs), calibration)
    identity = Identity(source=source.ref().sha256, calibration="c", seed=0, tools={})
    cache = Cache(folder / "cache")
    return measure_sensitivity(source, calibration, folder / "work", cache, identity, Limits(timeout_s))


def test_the_uneven_layer_costs_most_and_its_neighbour_next(tmp_path: Path) -> None:
    found = measured(layered(tmp_path / "source", uneven="third"), tmp_path, images(1))
    assert {one.layer for one in found.layers} == set(LAYERS)
    assert {one.layer for one in found.layers[:2]} == {"second", "third"}
    assert found.layers[1].error > 10 * found.layers[2].error
    assert [one.error for one in found.layers] == sorted((one.error for one in found.layers), reverse=True)
    assert found.samples == 32


def test_a_second_time_it_comes_from_the_cache(tmp_path: Path) -> None:
    source = layered(tmp_path / "source")
    first = measured(source, tmp_path, images(1))
    (tmp_path / "work" / "result.json").unlink()
    assert measured(source, tmp_path, images(1)) == first
    assert not (tmp_path / "work" / "result.json").exists()


def test_all_layers_in_int8_are_as_wrong_as_onnxruntime_makes_them(tmp_path: Path) -> None:
    """Rounding every layer in float arithmetic gives what the int8 pass gives, within a step of its rounding."""
    source = layered(tmp_path / "source")
    (tmp_path / "int8").mkdir()
    product = build_pass(PluginConfig(name="quantize_static_int8")).apply(
        source, PassContext(tmp_path / "int8", source, images(1, 32))
    )
    prepare(source.file, tmp_path / "prepared.onnx")
    model = onnx.load(tmp_path / "prepared.onnx")
    ranges = _ranges(model, images(1, 32))
    for layer in quantizable_layers(model.graph):
        model = quantized(model, layer, ranges)
    rounded = Artifact(tmp_path / "rounded", ArtifactFormat.ONNX, source.signature)
    rounded.folder.mkdir()
    onnx.save(model, rounded.file)
    ours, theirs, exact = (_answers(one) for one in (rounded, product, source))
    assert np.abs(ours - theirs).max() < 0.25 * np.abs(theirs - exact).max() + 0.01 * exact.std()


def test_names_are_those_that_the_int8_pass_takes(tmp_path: Path) -> None:
    program, _ = exported("encoder", tmp_path / "source")
    found = measured(program, tmp_path, NETS["encoder"].inputs())
    prepared = next((tmp_path / "work").rglob("prepared.onnx"))
    assert all(nodes_of_layers(prepared, (one.layer,)) for one in found.layers)
    linear = {"encoder.layers.0.linear1", "encoder.layers.0.linear2"}  # their weights have no names, their biases do
    assert {*linear, "head"} <= {one.layer for one in found.layers}


def test_a_graph_without_products_has_no_sensitivity(tmp_path: Path) -> None:
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 2]) for name in "xy")
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", [x], [y])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    source = Artifact(tmp_path / "source", ArtifactFormat.ONNX, onnx_signature(model))
    source.folder.mkdir()
    onnx.save(model, source.file)
    with pytest.raises(CandidateError, match="no layer that int8 computes"):
        measured(source, tmp_path, {"x": np.ones((4, 2), np.float32)})


def _ranges(model: onnx.ModelProto, inputs: Arrays) -> dict[str, tuple[float, float]]:
    names = [name for node in model.graph.node for name in node.output]
    values = ReferenceEvaluator(model).run(names, inputs)
    found = {**inputs, **dict(zip(names, values, strict=True))}
    return {name: (float(value.min()), float(value.max())) for name, value in found.items()}


def _answers(artifact: Artifact) -> npt.NDArray[np.float64]:
    session = build_runtime(PluginConfig(name="onnxruntime")).load(artifact.folder, artifact.format, artifact.signature)
    return predict_all(session, images(2))["logits"].astype(np.float64)
