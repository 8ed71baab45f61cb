"""ONNX files carry the signature's names, also where the exporter would have used them for something else."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from registry.errors import CandidateError
from registry.records.model import Datatype, Signature, TensorSpec
from tasks.optimizer.onnx_export import write_onnx


class Awkward(nn.Module):
    """Its results are called like operators inside of it."""

    def __init__(self) -> None:
        super().__init__()
        self.relu, self.linear = nn.Linear(3, 3), nn.Linear(3, 3)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"relu": self.linear(torch.relu(self.relu(x))), "linear": 2 * x}


class Identity(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return x, x, x + 1


def spec(name: str) -> TensorSpec:
    return TensorSpec(name=name, datatype=Datatype.FP32, shape=(None, 3))


def export(module: nn.Module, outputs: tuple[str, ...], file: Path) -> None:
    torch.manual_seed(0)
    program = torch.export.export(module, (torch.randn(2, 3),), dynamic_shapes=({0: torch.export.Dim("batch")},))
    write_onnx(program, Signature(inputs=(spec("x"),), outputs=tuple(map(spec, outputs))), file)


def test_names_that_the_exporter_uses_inside_stay_apart(tmp_path: Path) -> None:
    module = Awkward()
    export(module, ("relu", "linear"), tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    x = np.ones((4, 3), np.float32)
    relu, linear = session.run(["relu", "linear"], {"x": x})
    np.testing.assert_allclose(relu, module(torch.from_numpy(x))["relu"].detach().numpy(), atol=1e-6)
    np.testing.assert_array_equal(linear, 2 * x)


def test_the_file_tells_nothing_of_the_source_code(tmp_path: Path) -> None:
    export(Awkward(), ("relu", "linear"), tmp_path / "model.onnx")
    model = onnx.load(tmp_path / "model.onnx")
    assert Path(__file__).name.encode() not in (tmp_path / "model.onnx").read_bytes()
    assert not any(node.metadata_props or node.doc_string for node in model.graph.node)


def test_results_that_are_inputs_or_the_same_tensor_twice_keep_their_names(tmp_path: Path) -> None:
    export(Identity(), ("same", "again", "more"), tmp_path / "model.onnx")
    x = np.ones((4, 3), np.float32)
    same, again, more = onnxruntime.InferenceSession(tmp_path / "model.onnx").run(["same", "again", "more"], {"x": x})
    np.testing.assert_array_equal(same, x)
    np.testing.assert_array_equal(again, x)
    np.testing.assert_array_equal(more, x + 1)


def test_another_number_of_results_than_the_signature_has_is_a_reason(tmp_path: Path) -> None:
    with pytest.raises(CandidateError, match="where the signature has"):
        export(Identity(), ("same",), tmp_path / "model.onnx")
