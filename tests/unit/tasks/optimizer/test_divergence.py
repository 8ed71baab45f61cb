"""The first diverging layer: a wrong kernel is named, rounding is not."""

from pathlib import Path

import openvino
import pytest

from registry.records.model import ArtifactFormat, PluginConfig
from tasks.optimizer.base import Artifact, PassContext, build_pass
from tasks.optimizer.divergence import first_diverging_layer
from tasks.optimizer.isolation import Limits
from tests.unit.tasks.optimizer.layered import corrupted, images, layered

LIMITS = Limits(timeout_s=120)
ONNXRUNTIME, OPENVINO = PluginConfig(name="onnxruntime"), PluginConfig(name="openvino")


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return layered(tmp_path_factory.mktemp("source"))


@pytest.fixture(scope="module")
def quantized(source: Artifact, tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return int8(source, tmp_path_factory.mktemp("int8"))


def int8(source: Artifact, workspace: Path) -> Artifact:
    step = build_pass(PluginConfig(name="quantize_static_int8"))
    return step.apply(source, PassContext(workspace, source, images(1)))


def as_ir(artifact: Artifact, folder: Path) -> Artifact:
    product = Artifact(folder, ArtifactFormat.OPENVINO_IR, artifact.signature)
    openvino.save_model(openvino.Core().read_model(str(artifact.file)), str(product.file), compress_to_fp16=False)
    return product


def named(source: Artifact, product: Artifact, runtime: PluginConfig, tmp_path: Path) -> str | None:
    return first_diverging_layer(source, product, runtime, images(2, 1), tmp_path / "compared", LIMITS)


@pytest.mark.parametrize("layer", ["first", "third", "head"])
def test_a_wrong_kernel_is_named(source: Artifact, layer: str, tmp_path: Path) -> None:
    assert named(source, corrupted(source, layer, tmp_path / "wrong"), ONNXRUNTIME, tmp_path) == layer


@pytest.mark.parametrize("runtime", [ONNXRUNTIME, OPENVINO], ids=lambda runtime: runtime.name)
def test_a_wrong_int8_kernel_is_named(
    source: Artifact, quantized: Artifact, runtime: PluginConfig, tmp_path: Path
) -> None:
    assert named(source, corrupted(quantized, "second", tmp_path / "wrong"), runtime, tmp_path) == "second"


def test_a_wrong_layer_of_openvino_ir_is_named(source: Artifact, tmp_path: Path) -> None:
    wrong = as_ir(corrupted(source, "third", tmp_path / "wrong"), tmp_path)
    assert named(source, wrong, OPENVINO, tmp_path) == "third"


@pytest.mark.parametrize("runtime", [ONNXRUNTIME, OPENVINO], ids=lambda runtime: runtime.name)
def test_rounding_to_int8_is_no_divergence(
    source: Artifact, quantized: Artifact, runtime: PluginConfig, tmp_path: Path
) -> None:
    assert named(source, quantized, runtime, tmp_path) is None


def test_the_layer_that_cannot_be_rounded_is_named(tmp_path: Path) -> None:
    uneven = layered(tmp_path / "source", uneven="third")
    (tmp_path / "int8").mkdir()
    assert named(uneven, int8(uneven, tmp_path / "int8"), ONNXRUNTIME, tmp_path) == "third"


def test_a_compiled_package_shows_no_layers(source: Artifact, tmp_path: Path) -> None:
    package = Artifact(tmp_path, ArtifactFormat.AOTI_PACKAGE, source.signature)
    assert named(source, package, PluginConfig(name="aot_inductor"), tmp_path) is None


def test_what_cannot_be_run_is_not_told(source: Artifact, tmp_path: Path) -> None:
    broken = Artifact(tmp_path / "broken", ArtifactFormat.ONNX, source.signature)
    broken.folder.mkdir()
    broken.file.write_bytes(b"no model")
    assert named(source, broken, ONNXRUNTIME, tmp_path) is None
