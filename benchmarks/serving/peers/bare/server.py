"""The bare limit of HTTP: parse, run the session, answer; nothing is checked, counted or captured.

Usage: python server.py FOLDER PORT; the folder holds NAME.onnx. Requests and answers are the Open Inference Protocol's,
with JSON or binary tensors, as far as this benchmark asks for them.

Source: https://uvicorn.dev/settings/ (uvloop, httptools, no access log); https://www.starlette.io is left out.
"""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import orjson
import uvicorn

_JSON = (b"content-type", b"application/json")
_BINARY = (b"content-type", b"application/octet-stream")
_JSON_LENGTH = b"inference-header-content-length"


def _session(file: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])


SESSIONS = {f"/v2/models/{file.stem}/infer": _session(file) for file in Path(sys.argv[1]).glob("*.onnx")}


async def application(scope: dict[str, Any], receive: Any, send: Any) -> None:  # noqa: ANN401
    """Answer one request."""
    body = b""
    more = True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    length = None
    for name, value in scope["headers"]:
        if name == _JSON_LENGTH:
            length = int(value)
    answer, headers = _answer(SESSIONS[scope["path"]], body, length)
    headers.append((b"content-length", b"%d" % len(answer)))
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": answer})


def _answer(
    session: onnxruntime.InferenceSession, body: bytes, length: int | None
) -> tuple[bytes, list[tuple[bytes, bytes]]]:
    if length is None:
        tensor = orjson.loads(body)["inputs"][0]
        x = np.array(tensor["data"], np.float32).reshape(tensor["shape"])
    else:
        tensor = orjson.loads(body[:length])["inputs"][0]
        x = np.frombuffer(body, np.float32, offset=length).reshape(tensor["shape"])
    (y,) = session.run(None, {"x": x})
    described = {"name": "y", "datatype": "FP32", "shape": y.shape}
    if length is None:
        described["data"] = y.reshape(-1)
        return orjson.dumps({"outputs": [described]}, option=orjson.OPT_SERIALIZE_NUMPY), [_JSON]
    described["parameters"] = {"binary_data_size": y.nbytes}
    head = orjson.dumps({"outputs": [described]})
    return head + y.tobytes(), [_BINARY, (_JSON_LENGTH, b"%d" % len(head))]


if __name__ == "__main__":
    uvicorn.run(
        application,
        host="127.0.0.1",
        port=int(sys.argv[2]),
        loop="uvloop",
        http="httptools",
        lifespan="off",
        access_log=False,
        log_level="warning",
    )
