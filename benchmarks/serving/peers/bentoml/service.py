"""BentoML's own endpoint, plain and batchable: one worker, access log off.

Usage: bentoml serve service:Network in this folder; PEER_MODEL names the ONNX file.

Source: https://docs.bentoml.com/en/latest/build-with-bentoml/observability/logging.html (access log);
https://docs.bentoml.com/en/latest/get-started/adaptive-batching.html (batchable);
https://docs.bentoml.com/en/latest/build-with-bentoml/parallelize-requests.html (workers).
"""

import os

import bentoml
import numpy as np
import onnxruntime


@bentoml.service(workers=1, logging={"access": {"enabled": False}})
class Network:
    """One ONNX network."""

    def __init__(self) -> None:
        """Load it."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(
            os.environ["PEER_MODEL"],  # noqa: TID251  BentoML hands a service no arguments
            options,
            providers=["CPUExecutionProvider"],
        )

    @bentoml.api
    def predict(self, x: np.ndarray) -> np.ndarray:
        """Compute outputs, one request at a time."""
        y: np.ndarray = self.session.run(None, {"x": x.astype(np.float32)})[0]
        return y

    @bentoml.api
    async def predict_on_loop(self, x: np.ndarray) -> np.ndarray:
        """Compute outputs on the event loop, without a hop to a thread."""
        y: np.ndarray = self.session.run(None, {"x": x.astype(np.float32)})[0]
        return y

    @bentoml.api(batchable=True, max_batch_size=32, max_latency_ms=10_000)
    def predict_batched(self, x: np.ndarray) -> np.ndarray:
        """Compute outputs of what BentoML puts into a batch."""
        y: np.ndarray = self.session.run(None, {"x": x.astype(np.float32)})[0]
        return y
