"""Small ONNX models, whole and with weights in other files."""

import io
from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx

from tests.unit.registry.uploads.zips import zipped

WEIGHTS = "model.onnx.data"


def model(**external: str) -> onnx.ModelProto:
    """``y = x @ w``; the weight lies where the given entries say, or in the model."""
    x = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["n", 4])
    y = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["n", 3])
    weight = onnx.numpy_helper.from_array(np.ones((4, 3), np.float32), "w")
    if external:
        point_outside(weight, **external)
    graph = onnx.helper.make_graph([onnx.helper.make_node("MatMul", ["x", "w"], ["y"])], "g", [x], [y], [weight])
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 20)], ir_version=10)


def point_outside(tensor: onnx.TensorProto, **external: str) -> onnx.TensorProto:
    """Make a tensor lie in another file."""
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    for key, value in external.items():
        tensor.external_data.add(key=key, value=value)
    return tensor


def bundle(files: Mapping[Any, bytes] | None = None, **external: str) -> bytes:
    """A bundle of a model whose weight lies where the entries say, with these files beside it."""
    external = external or {"location": WEIGHTS}
    files = {WEIGHTS: np.ones((4, 3), np.float32).tobytes()} if files is None else files
    return zipped({"model.onnx": model(**external).SerializeToString(), **files})


def as_file(content: bytes) -> tuple[io.BytesIO, int]:
    """An open file and its size."""
    return io.BytesIO(content), len(content)
