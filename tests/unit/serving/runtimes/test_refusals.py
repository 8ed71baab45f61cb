"""Values and sizes that a model does not take, though its signature does, are told apart from a broken session."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from registry.records.model import ArtifactFormat, Datatype, Signature, TensorSpec
from serving.runtime import Session
from serving.runtimes.onnxruntime import OnnxRuntime


def session(folder: Path, node: onnx.NodeProto, table: np.ndarray, datatype: Datatype, size: int | None) -> Session:
    """A graph of one node over ``x`` (samples, size) and a table."""
    kinds = {Datatype.INT64: TensorProto.INT64, Datatype.FP32: TensorProto.FLOAT}
    graph = helper.make_graph(
        [node],
        "one",
        [helper.make_tensor_value_info("x", kinds[datatype], ["n", size or "size"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(table, "table")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.save(model, folder / ArtifactFormat.ONNX.main_file)
    signature = Signature(
        inputs=(TensorSpec(name="x", datatype=datatype, shape=(None, size)),),
        outputs=(TensorSpec(name="y", datatype=Datatype.FP32, shape=(None, None)),),
    )
    return OnnxRuntime().load(folder, ArtifactFormat.ONNX, signature)


def refused(session: Session, x: np.ndarray) -> bool:
    with pytest.raises(Exception, match="ONNXRuntimeError") as caught:
        session.run({"x": x})
    return session.refuses(caught.value)


@pytest.mark.parametrize("size", [1, None])
def test_an_index_beyond_the_table_is_the_requests_fault(tmp_path: Path, size: int | None) -> None:
    node = helper.make_node("Gather", ["table", "x"], ["y"])
    words = session(tmp_path, node, np.ones((10, 4), np.float32), Datatype.INT64, size)
    assert refused(words, np.array([[10]]))


@pytest.mark.parametrize(("size", "fault"), [(None, True), (3, False)])
def test_a_size_is_the_requests_fault_only_where_the_signature_leaves_it_open(
    tmp_path: Path, size: int | None, fault: bool
) -> None:
    node = helper.make_node("MatMul", ["x", "table"], ["y"])
    product = session(tmp_path, node, np.ones((5, 2), np.float32), Datatype.FP32, None)
    if size is not None:  # a graph that breaks on what its signature says
        product.signature = Signature(
            inputs=(TensorSpec(name="x", datatype=Datatype.FP32, shape=(None, size)),),
            outputs=product.signature.outputs,
        )
    assert refused(product, np.ones((1, 3), np.float32)) is fault
