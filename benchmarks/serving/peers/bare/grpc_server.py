"""The bare limit of gRPC in Python: a ``grpc.aio`` servicer on uvloop; nothing is checked, counted or captured.

Usage: python grpc_server.py FOLDER PORT MESSAGES; the folder holds NAME.onnx, the last is the folder of
``open_inference_pb2.py``.

Source: https://grpc.io/docs/guides/performance/ (Python: asyncio where calls are short).
"""

import asyncio
import sys
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import onnxruntime
import uvloop

sys.path.append(sys.argv[3])

import open_inference_pb2 as pb


def _session(file: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])


SESSIONS = {file.stem: _session(file) for file in Path(sys.argv[1]).glob("*.onnx")}


async def infer(request: Any, _: Any) -> pb.ModelInferResponse:  # noqa: ANN401
    """Answer one call."""
    x = np.frombuffer(request.raw_input_contents[0], np.float32).reshape(request.inputs[0].shape)
    (y,) = SESSIONS[request.model_name].run(None, {"x": x})
    response = pb.ModelInferResponse(model_name=request.model_name, raw_output_contents=[y.tobytes()])
    response.outputs.add(name="y", datatype="FP32", shape=y.shape)
    return response


async def main() -> None:
    """Serve until the process is ended."""
    server = grpc.aio.server()
    handler = grpc.unary_unary_rpc_method_handler(
        infer, pb.ModelInferRequest.FromString, pb.ModelInferResponse.SerializeToString
    )
    service = grpc.method_handlers_generic_handler("inference.GRPCInferenceService", {"ModelInfer": handler})
    server.add_generic_rpc_handlers((service,))
    server.add_insecure_port(f"127.0.0.1:{sys.argv[2]}")
    await server.start()
    await server.wait_for_termination()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())
