"""``grpc.health.v1`` over one worker: the health of the server, also under the name of its inference service.

Source: https://github.com/grpc/grpc, doc/health-checking.md.
"""

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

from grpc_health.v1 import health_pb2

from registry.errors import InputError, ModelNotFound
from serving.doors.grpc_metadata import CallMetadata
from serving.doors.grpc_stream_call import StreamCall
from serving.doors.grpc_wire import parsed
from serving.engine.worker import Worker

_POLL_SECONDS = 0.5


async def check(
    worker: Worker,
    service: str,
    request: Any,  # noqa: ANN401 - generated messages have no types
    _: CallMetadata,
) -> health_pb2.HealthCheckResponse:
    """Say how it is now.

    Raises:
        ModelNotFound: there is no such service.
    """
    if request.service not in ("", service):
        raise ModelNotFound(f"there is no service {request.service!r:.80}")
    return health_pb2.HealthCheckResponse(status=_serving(worker))


async def watch(worker: Worker, service: str, call: StreamCall) -> AsyncGenerator[bytes, None]:
    """Say how it is, and again whenever that changes.

    Raises:
        InputError: the message is none.
    """
    asked = [parsed(health_pb2.HealthCheckRequest, one.content) async for one in call.messages()]
    if len(asked) != 1:
        raise InputError(f"the message: expected one, got {len(asked)}")
    unknown = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
    told = None
    while True:
        now = _serving(worker) if asked[0].service in ("", service) else unknown
        if now != told:
            told = now
            yield health_pb2.HealthCheckResponse(status=now).SerializeToString()
        if worker.draining:
            return
        await asyncio.sleep(_POLL_SECONDS)


def _serving(worker: Worker) -> int:
    kinds = health_pb2.HealthCheckResponse
    status: int = kinds.SERVING if worker.ready else kinds.NOT_SERVING
    return status
