"""A tiny worker behind the gateway: says who answered and what it was sent. Run: python upstream.py PORT.

REST at PORT, gRPC at PORT + 1. ``GET /seen`` says how many requests came in at either, probes apart. From ``GET /hold``
to ``GET /let-go`` it answers nothing that is asked of the model ``held``, nor /v2/held. At SIGUSR1 it ends itself by
SIGKILL between two steps of its event loop: with requests in hand, but no answer half written. uvicorn writes an answer
in two pieces; the engine's door writes it in one.
"""

import asyncio
import json
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import uvicorn
from grpc_health.v1 import health_pb2

from serving.doors.protocol import open_inference_pb2 as pb

Message = dict[str, Any]
PORT = int(sys.argv[1])
SLOW_SECONDS = 0.02
HELD = ("/v2/held", "/v2/models/held/infer")
UNCOUNTED = ("/v2/health/ready", "/seen", "/hold", "/let-go")

seen = {"begun": 0, "ended": 0}
let_go = asyncio.Event()
let_go.set()


async def app(
    scope: Message, receive: Callable[[], Awaitable[Message]], send: Callable[[Message], Awaitable[None]]
) -> None:
    """Answer 200 with this worker's port, the headers that came in, and the size of what it was sent."""
    if scope["type"] != "http":
        return
    path = scope["path"]
    counted = path not in UNCOUNTED
    seen["begun"] += counted
    size, more = 0, True
    while more:
        message = await receive()
        size += len(message.get("body", b""))
        more = message.get("more_body", False)
    if path == "/hold":
        let_go.clear()
    elif path == "/let-go":
        let_go.set()
    elif path in HELD:
        await let_go.wait()
    elif counted:
        await asyncio.sleep(SLOW_SECONDS)
    came = json.dumps({name.decode(): value.decode() for name, value in scope["headers"]})
    headers = [(b"x-worker", str(PORT).encode()), (b"x-path", scope["raw_path"]), (b"x-came", came.encode())]
    if path.startswith("/v2/models/"):
        headers.append((b"x-burnish-model", path.split("/")[3].encode()))
    body = json.dumps(seen) if path == "/seen" else str(size)
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body.encode()})
    seen["ended"] += counted


async def _infer(request: Any, context: Any) -> Any:  # noqa: ANN401
    seen["begun"] += 1
    came = json.dumps({key: value for key, value in context.invocation_metadata() if isinstance(value, str)})
    await context.send_initial_metadata((("x-worker", str(PORT)), ("x-came", came)))
    await asyncio.sleep(SLOW_SECONDS)
    seen["ended"] += 1
    return pb.ModelInferResponse(model_name=request.model_name, model_version=str(PORT))


async def _stream(requests: Any, _: Any) -> Any:  # noqa: ANN401
    async for request in requests:
        yield pb.ModelStreamInferResponse(infer_response=pb.ModelInferResponse(model_name=request.model_name))


async def _health(*_: Any) -> Any:  # noqa: ANN401
    return health_pb2.HealthCheckResponse(status=health_pb2.HealthCheckResponse.SERVING)


async def serve() -> None:
    """Open both doors."""
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGUSR1, lambda: os.kill(os.getpid(), signal.SIGKILL))
    server = grpc.aio.server()
    handler, stream = grpc.unary_unary_rpc_method_handler, grpc.stream_stream_rpc_method_handler
    read, write = pb.ModelInferRequest.FromString, pb.ModelInferResponse.SerializeToString
    inference = {
        "ModelInfer": handler(_infer, read, write),
        "ModelStreamInfer": stream(_stream, read, pb.ModelStreamInferResponse.SerializeToString),
    }
    check = handler(_health, health_pb2.HealthCheckRequest.FromString, health_pb2.HealthCheckResponse.SerializeToString)
    server.add_generic_rpc_handlers(
        (
            grpc.method_handlers_generic_handler("inference.GRPCInferenceService", inference),
            grpc.method_handlers_generic_handler("grpc.health.v1.Health", {"Check": check}),
        )
    )
    server.add_insecure_port(f"127.0.0.1:{PORT + 1}")
    await server.start()
    config = uvicorn.Config(app, host="127.0.0.1", port=PORT, log_level="warning", lifespan="off")
    await uvicorn.Server(config).serve()


if __name__ == "__main__":
    asyncio.run(serve())
