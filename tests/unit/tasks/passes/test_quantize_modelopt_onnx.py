"""ModelOpt changes ONNX Runtime's quantizer for its purpose; after the pass it is as it was."""

from pathlib import Path

from onnxruntime.quantization import calibrate
from onnxruntime.quantization.registry import QDQRegistry, QLinearOpsRegistry

from registry.records.model import PluginConfig
from tasks.optimizer.base import Artifact, PassContext, build_pass
from tests.contracts.nets import NETS, exported


def test_other_passes_of_the_process_are_not_changed(tmp_path: Path) -> None:
    source, _ = exported("conv1d", tmp_path / "source")

    def apply(name: str, artifact: Artifact, folder: str) -> Artifact:
        (tmp_path / folder).mkdir()
        context = PassContext(tmp_path / folder, source, NETS["conv1d"].inputs())
        return build_pass(PluginConfig(name=name)).apply(artifact, context)

    graph = apply("export_onnx", source, "graph")
    first = apply("quantize_static_int8", graph, "first").ref()
    before = dict(QDQRegistry), dict(QLinearOpsRegistry), dict(vars(calibrate.MinMaxCalibrater))
    apply("quantize_modelopt_onnx", graph, "modelopt")
    assert before == (dict(QDQRegistry), dict(QLinearOpsRegistry), dict(vars(calibrate.MinMaxCalibrater)))
    assert apply("quantize_static_int8", graph, "second").ref() == first
