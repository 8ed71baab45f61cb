"""The networks that every server serves, and the requests that are sent to them."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import orjson
from onnx import TensorProto, helper, numpy_helper

from registry.records.model import Datatype, Signature, TensorSpec
from serving.doors.protocol import open_inference_pb2 as pb

INPUTS = {"small": 32, "wide": 1024}
"""Floats a sample, by network: a plain MLP, and one with a thousand inputs."""

HIDDEN = 64
OUTPUTS = 10
JSON = {"content-type": "application/json"}

Floats = npt.NDArray[np.float32]


def write_networks(folder: Path) -> None:
    """Write ``NAME.onnx`` for every network: three dense layers with random weights."""
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(0)
    for name, inputs in INPUTS.items():
        sizes = (inputs, HIDDEN, HIDDEN, OUTPUTS)
        nodes, weights, before = [], [], "x"
        for layer, (rows, columns) in enumerate(pairwise(sizes)):
            values = (random.standard_normal((rows, columns)) / np.sqrt(rows)).astype(np.float32)
            last = layer == len(sizes) - 2
            after = "y" if last else f"dense{layer}"
            weights += [
                numpy_helper.from_array(values, f"w{layer}"),
                numpy_helper.from_array(np.zeros(columns, np.float32), f"b{layer}"),
            ]
            nodes.append(helper.make_node("Gemm", [before, f"w{layer}", f"b{layer}"], [after]))
            if not last:
                nodes.append(helper.make_node("Relu", [after], [f"relu{layer}"]))
            before = f"relu{layer}"
        graph = helper.make_graph(
            nodes,
            name,
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", inputs])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", OUTPUTS])],
            weights,
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
        onnx.save(model, folder / f"{name}.onnx")


def signature(name: str) -> Signature:
    """Return the signature of a network."""
    return Signature(
        inputs=(TensorSpec(name="x", datatype=Datatype.FP32, shape=(None, INPUTS[name])),),
        outputs=(TensorSpec(name="y", datatype=Datatype.FP32, shape=(None, OUTPUTS)),),
    )


def sample(name: str) -> Floats:
    """Return [1, inputs] float32, the sample that is sent to a network."""
    return np.random.default_rng(1).standard_normal((1, INPUTS[name])).astype(np.float32)


def expected(folder: Path, name: str) -> Floats:
    """Return [1, outputs] float32, the right answer to the sample."""
    session = onnxruntime.InferenceSession(str(folder / f"{name}.onnx"), providers=["CPUExecutionProvider"])
    answer: Floats = session.run(None, {"x": sample(name)})[0]
    return answer


def write_requests(folder: Path) -> None:
    """Write the bodies of all requests, ``NETWORK.FORM``."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in INPUTS:
        x = sample(name)
        tensor = {"name": "x", "datatype": "FP32", "shape": list(x.shape)}
        flat = orjson.dumps({"inputs": [{**tensor, "data": x.reshape(-1)}]}, option=orjson.OPT_SERIALIZE_NUMPY)
        (folder / f"{name}.json").write_bytes(flat)
        (folder / f"{name}.lists").write_bytes(orjson.dumps({"x": x}, option=orjson.OPT_SERIALIZE_NUMPY))
        (folder / f"{name}.binary").write_bytes(binary_head(name) + x.tobytes())
        message = pb.ModelInferRequest(model_name=name, raw_input_contents=[x.tobytes()])
        message.inputs.add(name="x", datatype="FP32", shape=x.shape)
        (folder / f"{name}.grpc").write_bytes(message.SerializeToString())


def binary_head(name: str) -> bytes:
    """Return the JSON part of a binary request."""
    x = sample(name)
    tensor = {"name": "x", "datatype": "FP32", "shape": list(x.shape), "parameters": {"binary_data_size": x.nbytes}}
    return orjson.dumps({"parameters": {"binary_data_output": True}, "inputs": [tensor]})
