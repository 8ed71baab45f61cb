"""A version is warmed up with sizes that its model takes."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from registry.records.model import ArtifactFormat, Datatype, Signature, TensorSpec
from serving.runtime import Session
from serving.runtimes.onnxruntime import OnnxRuntime


def convolution(folder: Path, kernel: int) -> Session:
    """A convolution over sequences of any length that is not shorter than its kernel."""
    weights = numpy_helper.from_array(np.ones((1, 2, kernel), np.float32), "weights")
    graph = helper.make_graph(
        [helper.make_node("Conv", ["x", "weights"], ["y"])],
        "convolution",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 2, "length"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 1, "rest"])],
        [weights],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.save(model, folder / ArtifactFormat.ONNX.main_file)
    signature = Signature(
        inputs=(TensorSpec(name="x", datatype=Datatype.FP32, shape=(None, 2, None)),),
        outputs=(TensorSpec(name="y", datatype=Datatype.FP32, shape=(None, 1, None)),),
    )
    return OnnxRuntime().load(folder, ArtifactFormat.ONNX, signature)


@pytest.mark.parametrize(("kernel", "sizes"), [(1, [1]), (5, [1, 8]), (65, [1, 8, 64, 256])])
def test_a_warm_up_finds_a_size_that_the_model_takes_and_keeps_to_it(
    tmp_path: Path, kernel: int, sizes: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    session, tried = convolution(tmp_path, kernel), []
    run = session.run

    def noted(inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        tried.append(inputs["x"].shape)
        return run(inputs)

    monkeypatch.setattr(session, "run", noted)
    session.warm_up()
    session.warm_up()
    assert tried == [(1, 2, size) for size in [*sizes, sizes[-1]]]


def test_a_model_that_takes_none_of_the_sizes_says_why(tmp_path: Path) -> None:
    session = convolution(tmp_path, 300)
    with pytest.raises(Exception, match="Conv"):
        session.warm_up()
