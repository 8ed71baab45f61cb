"""ONNX files carry the signature's names, also where the exporter would have used them for something else."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor, nn
from torch.onnx import OnnxExporterError

from registry.errors import CandidateError
from registry.records.model import Datatype, Signature, TensorSpec
from tasks.optimizer import onnx_export
from tasks.optimizer.onnx_export import Exporter, write_onnx

EXPORTERS = ("dynamo", "legacy")


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


class Reshaping(nn.Module):
    """Its reshapes, expansions and new tensors follow the batch."""

    def forward(self, x: Tensor) -> Tensor:
        rows = x.shape[0]
        heads = x.view(rows, 3, 1).expand(rows, 3, 2).reshape(rows, 6)
        return heads[:, :3] + torch.zeros(rows, 3) + torch.arange(rows)[:, None].repeat(1, 3)


class LastRow(nn.Module):
    """Adds the last sample to all, found by a number that tracing writes down."""

    def forward(self, x: Tensor) -> Tensor:
        return x + x[x.shape[0] - 1 :]


def export(module: nn.Module, outputs: tuple[str, ...], file: Path, exporter: Exporter = "auto") -> None:
    torch.manual_seed(0)
    program = torch.export.export(module, (torch.randn(2, 3),), dynamic_shapes=({0: torch.export.Dim("batch")},))
    write_onnx(program, Signature(inputs=(spec("x"),), outputs=tuple(map(spec, outputs))), file, exporter=exporter)


def used_exporter(file: Path) -> str:
    return {entry.key: entry.value for entry in onnx.load(file).metadata_props}["exporter"]


@pytest.mark.parametrize("exporter", EXPORTERS)
def test_names_that_the_exporter_uses_inside_stay_apart(exporter: Exporter, tmp_path: Path) -> None:
    module = Awkward()
    export(module, ("relu", "linear"), tmp_path / "model.onnx", exporter)
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    x = np.ones((4, 3), np.float32)
    relu, linear = session.run(["relu", "linear"], {"x": x})
    np.testing.assert_allclose(relu, module(torch.from_numpy(x))["relu"].detach().numpy(), atol=1e-6)
    np.testing.assert_array_equal(linear, 2 * x)


@pytest.mark.parametrize("exporter", EXPORTERS)
def test_the_file_tells_nothing_of_the_source_code(exporter: Exporter, tmp_path: Path) -> None:
    export(Awkward(), ("relu", "linear"), tmp_path / "model.onnx", exporter)
    model = onnx.load(tmp_path / "model.onnx")
    assert Path(__file__).name.encode() not in (tmp_path / "model.onnx").read_bytes()
    assert not any(node.metadata_props or node.doc_string for node in model.graph.node)


@pytest.mark.parametrize("exporter", EXPORTERS)
def test_results_that_are_inputs_or_the_same_tensor_twice_keep_their_names(exporter: Exporter, tmp_path: Path) -> None:
    export(Identity(), ("same", "again", "more"), tmp_path / "model.onnx", exporter)
    x = np.ones((4, 3), np.float32)
    same, again, more = onnxruntime.InferenceSession(tmp_path / "model.onnx").run(["same", "again", "more"], {"x": x})
    np.testing.assert_array_equal(same, x)
    np.testing.assert_array_equal(again, x)
    np.testing.assert_array_equal(more, x + 1)


@pytest.mark.parametrize("exporter", EXPORTERS)
def test_another_number_of_results_than_the_signature_has_is_a_reason(exporter: Exporter, tmp_path: Path) -> None:
    with pytest.raises(CandidateError, match="where the signature has"):
        export(Identity(), ("same",), tmp_path / "model.onnx", exporter)


def test_what_cannot_be_translated_is_traced_and_the_log_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OnnxExporterError("no such operator here")

    said: list[str] = []
    monkeypatch.setattr(onnx_export._log, "warning", lambda text, *values: said.append(text % values))
    module = Reshaping()
    export(module, ("y",), tmp_path / "translated.onnx")
    monkeypatch.setattr(onnx_export, "_translate", refuse)
    export(module, ("y",), tmp_path / "model.onnx")
    assert used_exporter(tmp_path / "translated.onnx") == "dynamo"
    assert used_exporter(tmp_path / "model.onnx") == "legacy"
    assert "no such operator here" in "".join(said)
    x = np.arange(15, dtype=np.float32).reshape(5, 3)
    (y,) = onnxruntime.InferenceSession(tmp_path / "model.onnx").run(["y"], {"x": x})
    np.testing.assert_array_equal(y, module(torch.from_numpy(x)).numpy())
    with pytest.raises(CandidateError, match="no such operator here"):
        export(module, ("y",), tmp_path / "model.onnx", "dynamo")


def test_a_batch_that_tracing_fixed_loses_the_candidate(tmp_path: Path) -> None:
    with pytest.raises(CandidateError, match="fixed the batch at 2"):
        export(LastRow(), ("y",), tmp_path / "model.onnx", "legacy")
