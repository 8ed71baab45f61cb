"""A graph is rewritten where there is something to rewrite, and refused with a reason where there is not."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from registry.errors import CandidateError
from registry.records.model import ArtifactFormat, Datatype, PluginConfig, Signature, TensorSpec
from tasks.optimizer.base import Artifact, PassContext, build_pass

SIGNATURE = Signature(
    inputs=(TensorSpec(name="x", datatype=Datatype.FP32, shape=(None, 2, 4, 4)),),
    outputs=(TensorSpec(name="y", datatype=Datatype.FP32, shape=(None, 3, 4, 4)),),
)


def graph(folder: Path, *, normalized: bool) -> Artifact:
    """A convolution, and behind it, if so wanted, a batch norm."""
    generator = np.random.default_rng(0)
    shapes = {"weight": (3, 2, 3, 3), "scale": (3,), "shift": (3,), "mean": (3,), "variance": (3,)}
    weights = [
        numpy_helper.from_array(generator.uniform(0.5, 1, shape).astype(np.float32), name)
        for name, shape in shapes.items()
    ]
    nodes = [helper.make_node("Conv", ["x", "weight"], ["c" if normalized else "y"], name="conv", pads=[1, 1, 1, 1])]
    if normalized:
        nodes.append(helper.make_node("BatchNormalization", ["c", *list(shapes)[1:]], ["y"], name="norm"))
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 2, 4, 4])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 3, 4, 4])
    made = helper.make_graph(nodes, "g", [x], [y], weights if normalized else weights[:1])
    artifact = Artifact(folder, ArtifactFormat.ONNX, SIGNATURE)
    folder.mkdir()
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.save(model, artifact.file)
    return artifact


def optimized(artifact: Artifact, folder: Path, **knobs: str) -> Artifact:
    folder.mkdir()
    step = build_pass(PluginConfig(name="optimize_graph", knobs=dict(knobs)))
    return step.apply(artifact, PassContext(folder, artifact, {}))


@pytest.mark.parametrize("tool", ["both", "onnxslim", "onnxruntime"])
def test_a_batch_norm_is_folded_into_its_convolution(tool: str, tmp_path: Path) -> None:
    source = graph(tmp_path / "source", normalized=True)
    product = optimized(source, tmp_path / "work", tool=tool)
    assert [node.op_type for node in onnx.load(product.file).graph.node] == ["Conv"]
    x = np.random.default_rng(1).normal(size=(3, 2, 4, 4)).astype(np.float32)
    before, after = (onnxruntime.InferenceSession(one.file).run(None, {"x": x})[0] for one in (source, product))
    np.testing.assert_allclose(after, before, atol=1e-5)


def test_a_graph_with_nothing_to_rewrite_is_told(tmp_path: Path) -> None:
    with pytest.raises(CandidateError, match="nothing to fold or fuse in this graph of 1 nodes"):
        optimized(graph(tmp_path / "source", normalized=False), tmp_path / "work")
