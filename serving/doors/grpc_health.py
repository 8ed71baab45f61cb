"""``grpc.health.v1`` over one worker.

Source: https://github.com/grpc/grpc, doc/health-checking.md.
"""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
from grpc_health.v1 import health_pb2

from serving.doors.grpc_calls import Context
from serving.engine.worker import Worker

_POLL_SECONDS = 0.5


class GrpcHealth:
    """The health of the server, also under the name of its inference service."""

    def __init__(self, worker: Worker, service: str) -> None:
        """Take the worker, and the service that it stands for."""
        self._worker = worker
        self._names = ("", service)

    def handler(self) -> grpc.GenericRpcHandler:
        """Return what a server is given."""
        request, response = health_pb2.HealthCheckRequest.FromString, health_pb2.HealthCheckResponse.SerializeToString
        methods = {
            "Check": grpc.unary_unary_rpc_method_handler(self._check, request, response),
            "Watch": grpc.unary_stream_rpc_method_handler(self._watch, request, response),
        }
        return grpc.method_handlers_generic_handler("grpc.health.v1.Health", methods)

    async def _check(self, request: Any, context: Context) -> health_pb2.HealthCheckResponse:  # noqa: ANN401
        if request.service not in self._names:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"there is no service {request.service!r:.80}")
        return health_pb2.HealthCheckResponse(status=self._serving())

    async def _watch(
        self,
        request: Any,  # noqa: ANN401
        _: Context,
    ) -> AsyncIterator[health_pb2.HealthCheckResponse]:
        unknown = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
        told = None
        while True:
            now = self._serving() if request.service in self._names else unknown
            if now != told:
                told = now
                yield health_pb2.HealthCheckResponse(status=now)
            if self._worker.draining:
                return
            await asyncio.sleep(_POLL_SECONDS)

    def _serving(self) -> int:
        kinds = health_pb2.HealthCheckResponse
        status: int = kinds.SERVING if self._worker.ready else kinds.NOT_SERVING
        return status
