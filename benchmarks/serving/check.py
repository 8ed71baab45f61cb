"""Whether a target answers, and with the right numbers."""

from pathlib import Path

import grpc
import httpx
import numpy as np
import orjson

from benchmarks.serving.figures import Target, Wire
from benchmarks.serving.load_http import HOST
from benchmarks.serving.network import Floats, expected
from benchmarks.serving.servers import CannotStart
from serving.doors.protocol import open_inference_pb2 as pb

_SECONDS = 10.0
_JSON_LENGTH = "inference-header-content-length"


def answers(target: Target) -> bool:
    """True if every port of a target answers its request, whatever it says in it."""
    try:
        return all(_ask(target, port).size > 0 for port in target.ports)
    except (httpx.HTTPError, grpc.RpcError):
        return False


def check(target: Target, networks: Path) -> None:
    """Compare a target's answer with that of the network itself.

    Raises:
        CannotStart: it is another.
    """
    right = expected(networks, target.body.stem)
    for port in target.ports:
        got = _ask(target, port)
        if got.size != right.size or not np.allclose(got, right.reshape(-1), rtol=1e-4, atol=1e-5):
            raise CannotStart(f"{target.name} answers {got.tolist()}, not {right.tolist()}")


def _ask(target: Target, port: int) -> Floats:
    """Return [outputs] float32 of one answer."""
    body = target.body.read_bytes()
    if target.wire is Wire.GRPC:
        with grpc.insecure_channel(f"{HOST}:{port}") as channel:
            message = pb.ModelInferResponse.FromString(channel.unary_unary(target.path)(body, timeout=_SECONDS))
        if message.raw_output_contents:
            return np.frombuffer(message.raw_output_contents[0], np.float32)
        return np.array(message.outputs[0].contents.fp32_contents, np.float32)
    url = f"http://{HOST}:{port}{target.path}"
    reply = httpx.post(url, content=body, headers=target.headers, timeout=_SECONDS).raise_for_status()
    if _JSON_LENGTH in reply.headers:
        return np.frombuffer(reply.content[int(reply.headers[_JSON_LENGTH]) :], np.float32)
    document = orjson.loads(reply.content)
    if isinstance(document, dict):
        document = document["y"] if "y" in document else document["outputs"][0]["data"]
    return np.array(document, np.float32).reshape(-1)
