"""Plain FastAPI: a pydantic model in, a pydantic model out.

Usage: python server.py FOLDER PORT; the folder holds small.onnx.

Source: https://fastapi.tiangolo.com/async/ (``async def`` where nothing blocks for long);
https://uvicorn.dev/settings/ (uvloop, httptools, no access log).
"""

import sys
from pathlib import Path

import numpy as np
import onnxruntime
import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel

options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
options.inter_op_num_threads = 1
session = onnxruntime.InferenceSession(
    str(Path(sys.argv[1]) / "small.onnx"), options, providers=["CPUExecutionProvider"]
)
app = FastAPI()


class Request(BaseModel):
    """Samples."""

    x: list[list[float]]


class Answer(BaseModel):
    """The outputs of each."""

    y: list[list[float]]


@app.post("/predict")
async def predict(request: Request) -> Answer:
    """Compute outputs."""
    (y,) = session.run(None, {"x": np.array(request.x, np.float32)})
    return Answer(y=y.tolist())


if __name__ == "__main__":
    uvicorn.run(
        app,
        host="127.0.0.1",
        port=int(sys.argv[2]),
        loop="uvloop",
        http="httptools",
        access_log=False,
        log_level="warning",
    )
