"""A model of MLServer's that runs an ONNX file, for REST and gRPC.

Usage: mlserver start FOLDER, which holds this file and its two settings files; PEER_MODEL names the ONNX file.

Source: https://docs.seldon.ai/mlserver/user-guide/custom (custom inference runtime);
https://docs.seldon.ai/mlserver/user-guide/parallel-inference (``parallel_workers`` 0: no process beside, which
is quicker where a run is short).
"""

import os

import numpy as np
import onnxruntime
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse


class OnnxModel(MLModel):
    """One ONNX network."""

    async def load(self) -> bool:
        """Open the file."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(
            os.environ["PEER_MODEL"],  # noqa: TID251  MLServer hands a model no arguments
            options,
            providers=["CPUExecutionProvider"],
        )
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """Compute outputs."""
        x = NumpyCodec.decode_input(payload.inputs[0])
        (y,) = self.session.run(None, {"x": x.astype(np.float32, copy=False)})
        return InferenceResponse(model_name=self.name, outputs=[NumpyCodec.encode_output("y", y)])
