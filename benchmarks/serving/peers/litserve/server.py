"""LitServe: one API process, one worker, requests one by one.

Usage: python server.py FOLDER PORT; the folder holds small.onnx.

Source: https://lightning.ai/docs/litserve/api-reference/litserver;
https://lightning.ai/docs/litserve/features/batching (not used: a run of this network is quicker than any wait).
"""

import sys
from pathlib import Path
from typing import Any

import litserve
import numpy as np
import onnxruntime

FILE = Path(sys.argv[1]) / "small.onnx"


class NetworkApi(litserve.LitAPI):
    """One ONNX network."""

    def setup(self, device: str) -> None:
        """Load it in the worker."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(str(FILE), options, providers=["CPUExecutionProvider"])

    def decode_request(self, request: dict[str, Any]) -> np.ndarray:
        """Read one request."""
        return np.array(request["x"], np.float32)

    def predict(self, x: np.ndarray) -> np.ndarray:
        """Compute its outputs."""
        y: np.ndarray = self.session.run(None, {"x": x})[0]
        return y

    def encode_response(self, output: np.ndarray) -> dict[str, Any]:
        """Write its answer."""
        return {"y": output.tolist()}


if __name__ == "__main__":
    server = litserve.LitServer(NetworkApi(), accelerator="cpu", workers_per_device=1, fast_queue=True)
    server.run(
        host="127.0.0.1",
        port=int(sys.argv[2]),
        num_api_servers=1,
        log_level="warning",
        generate_client_file=False,
        access_log=False,
    )
