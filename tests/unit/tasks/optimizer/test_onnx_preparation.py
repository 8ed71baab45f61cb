"""Layers are found by path also where the exporter folded their weights, and image means become poolings."""

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
from tasks.optimizer.onnx_preparation import nodes_of_layers, prepare


class Tokens(nn.Module):
    """Linear layers on three axes, whose weights are exported transposed, and a mean that is none of an image."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(torch.relu(self.first(x.view(-1, 3, 4)))).mean(1)


class Image(nn.Module):
    def __init__(self, keepdim: bool) -> None:
        super().__init__()
        self.keepdim = keepdim

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x.view(-1, 3, 2, 2)).mean((-1, -2), keepdim=self.keepdim)


def graphs(module: nn.Module, folder: Path, shape: tuple[int | None, ...] = (None, 4)) -> tuple[Path, Path]:
    torch.manual_seed(0)
    program = torch.export.export(
        module.eval(), (torch.randn(2, 12),), dynamic_shapes=({0: torch.export.Dim("batch")},)
    )
    inputs = (TensorSpec(name="x", datatype=Datatype.FP32, shape=(None, 12)),)
    outputs = (TensorSpec(name="y", datatype=Datatype.FP32, shape=shape),)
    write_onnx(program, Signature(inputs=inputs, outputs=outputs), folder / "model.onnx")
    prepare(folder / "model.onnx", folder / "prepared.onnx")
    return folder / "model.onnx", folder / "prepared.onnx"


def test_a_layer_is_found_by_the_path_of_its_module(tmp_path: Path) -> None:
    original, prepared = graphs(Tokens(), tmp_path)
    nodes = {node.name: node.op_type for node in onnx.load(prepared).graph.node}
    found = nodes_of_layers(prepared, ("second",), original=original)
    other = nodes_of_layers(prepared, ("first",), original=original)
    assert {"MatMul", "Add"} >= {nodes[name] for name in found} > {"Add"}
    assert not set(found) & set(other)
    assert nodes_of_layers(prepared, (found[0],), original=original) == found[:1]
    with pytest.raises(CandidateError, match="'third'"):
        nodes_of_layers(prepared, ("third",), original=original)


@pytest.mark.parametrize("keepdim", [True, False])
def test_the_mean_of_an_image_becomes_a_pooling_with_the_same_answer(keepdim: bool, tmp_path: Path) -> None:
    original, prepared = graphs(Image(keepdim), tmp_path, (None, 3, 1, 1) if keepdim else (None, 3))
    assert "GlobalAveragePool" in {node.op_type for node in onnx.load(prepared).graph.node}
    x = np.random.default_rng(0).normal(size=(5, 12)).astype(np.float32)
    before, after = (onnxruntime.InferenceSession(file).run(None, {"x": x})[0] for file in (original, prepared))
    assert before.shape == after.shape
    np.testing.assert_allclose(before, after, atol=1e-6)


def test_another_mean_stays_as_it_is(tmp_path: Path) -> None:
    _, prepared = graphs(Tokens(), tmp_path)
    assert "ReduceMean" in {node.op_type for node in onnx.load(prepared).graph.node}
