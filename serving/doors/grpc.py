"""The gRPC door: Open Inference Protocol v2, the repository and statistics extensions, and ``grpc.health.v1``.

Source: https://github.com/kserve/open-inference-protocol, specification/protocol/inference_grpc.md;
https://github.com/grpc/grpc, doc/health-checking.md.
"""

import asyncio
from collections.abc import AsyncIterator
from importlib.metadata import version as installed_version
from typing import Any

import grpc
from grpc_health.v1 import health_pb2

from registry.errors import BurnishError, InputError
from serving.doors import oip_grpc
from serving.doors.grpc_calls import Call, CallMetadata, Context, read, read_metadata, reader, refuse
from serving.doors.observed_grpc import observed
from serving.doors.protocol import open_inference_pb2 as pb
from serving.doors.requests import new_request_id, parse_version
from serving.engine.oip_repository import refuse_override
from serving.engine.urgency import ROUTINE, Urgency
from serving.engine.worker import Worker

EXTENSIONS = ("model_repository", "schedule_policy", "statistics")

_SERVICE = "inference.GRPCInferenceService"
_HEALTH_POLL_SECONDS = 0.5
_STREAM_WINDOW = 64
"""Requests of one stream that may be under way; more are read when some are answered."""
_FINAL_RESPONSE = "triton_final_response"
"""Tells Triton's clients that a request of a stream gets no further answer."""


class GrpcDoor:
    """The gRPC services over one worker."""

    def __init__(self, worker: Worker) -> None:
        """Take the worker that answers."""
        self._worker = worker

    def handlers(self) -> tuple[grpc.GenericRpcHandler, ...]:
        """Return what a server is given: the inference service and the health service."""
        calls: dict[str, Call] = {
            "ServerLive": self._server_live,
            "ServerReady": self._server_ready,
            "ServerMetadata": self._server_metadata,
            "ModelReady": self._model_ready,
            "ModelMetadata": self._model_metadata,
            "ModelInfer": self._model_infer,
            "ModelStatistics": self._model_statistics,
            "RepositoryIndex": self._repository_index,
            "RepositoryModelLoad": self._repository_load,
            "RepositoryModelUnload": self._repository_unload,
        }
        inference = {
            name: grpc.unary_unary_rpc_method_handler(
                observed(self._worker, call, traced=name == "ModelInfer"),
                request_deserializer=reader(getattr(pb, f"{name}Request")),
                response_serializer=getattr(pb, f"{name}Response").SerializeToString,
            )
            for name, call in calls.items()
        }
        inference["ModelStreamInfer"] = grpc.stream_stream_rpc_method_handler(
            self._model_stream_infer,
            request_deserializer=reader(pb.ModelInferRequest),
            response_serializer=pb.ModelStreamInferResponse.SerializeToString,
        )
        request, response = health_pb2.HealthCheckRequest.FromString, health_pb2.HealthCheckResponse.SerializeToString
        health = {
            "Check": grpc.unary_unary_rpc_method_handler(self._health, request, response),
            "Watch": grpc.unary_stream_rpc_method_handler(self._watch, request, response),
        }
        return (
            grpc.method_handlers_generic_handler(_SERVICE, inference),
            grpc.method_handlers_generic_handler("grpc.health.v1.Health", health),
        )

    async def _model_infer(
        self,
        request: Any,  # noqa: ANN401
        about: CallMetadata,
        context: Context,
    ) -> pb.ModelInferResponse:
        about.check()
        request_id = about.request_id
        version = parse_version(request.model_version) if request.model_version else None
        slot = self._worker.engine.route(request.model_name, version, about.unit_id)
        if about.retried:
            self._worker.guard.check_retried(slot.served)
        inputs = oip_grpc.decode_inputs(request, slot.plan, finite=slot.finite_only)
        wanted = oip_grpc.wanted_outputs(request, slot.plan)
        urgency = Urgency.of(oip_grpc.parameters(request)) if request.parameters else ROUTINE
        answer = self._worker.engine.infer_now(slot, request_id, inputs)
        if answer is None:
            urgency = urgency.within(context.time_remaining())
            answer = await self._worker.engine.infer(slot, request_id, inputs, urgency)
        return oip_grpc.encode_answer(answer, wanted, request.id)

    async def _model_stream_infer(
        self,
        requests: AsyncIterator[Any],
        context: Context,
    ) -> AsyncIterator[pb.ModelStreamInferResponse]:
        """Answer each request of a stream, in their order; some are computed at once, so that they share runs."""
        about = read_metadata(context)
        try:
            about.check()
        except InputError as error:
            await refuse(context, error, about.request_id)
            return
        working: asyncio.Queue[asyncio.Task[pb.ModelStreamInferResponse] | None] = asyncio.Queue()
        window = asyncio.Semaphore(_STREAM_WINDOW)
        tasks: set[asyncio.Task[Any]] = set()

        async def read() -> None:
            try:
                async for request in requests:
                    await window.acquire()
                    task = asyncio.create_task(self._streamed(request, about, context))
                    tasks.add(task)
                    working.put_nowait(task)
            finally:
                working.put_nowait(None)

        tasks.add(reader := asyncio.create_task(read()))
        try:
            while (task := await working.get()) is not None:
                yield await task
                tasks.discard(task)
                window.release()
            await reader
        finally:
            for left in tasks:
                left.cancel()

    async def _streamed(
        self,
        request: Any,  # noqa: ANN401
        about: CallMetadata,
        context: Context,
    ) -> pb.ModelStreamInferResponse:
        failed = pb.ModelInferResponse()
        try:
            request = read(request)
            failed = pb.ModelInferResponse(model_name=request.model_name, id=request.id)
            answered = await self._model_infer(request, about._replace(request_id=new_request_id()), context)
        except BurnishError as error:
            return pb.ModelStreamInferResponse(error_message=str(error), infer_response=failed)
        answered.parameters[_FINAL_RESPONSE].bool_param = True
        return pb.ModelStreamInferResponse(infer_response=answered)

    async def _server_live(self, _: Any, *__: Any) -> pb.ServerLiveResponse:  # noqa: ANN401
        return pb.ServerLiveResponse(live=True)

    async def _server_ready(self, _: Any, *__: Any) -> pb.ServerReadyResponse:  # noqa: ANN401
        return pb.ServerReadyResponse(ready=self._worker.ready)

    async def _server_metadata(self, _: Any, *__: Any) -> pb.ServerMetadataResponse:  # noqa: ANN401
        return pb.ServerMetadataResponse(name="burnish", version=installed_version("burnish"), extensions=EXTENSIONS)

    async def _model_ready(self, request: Any, *_: Any) -> pb.ModelReadyResponse:  # noqa: ANN401
        return pb.ModelReadyResponse(ready=self._worker.repository.ready(request.name, _version(request)))

    async def _model_metadata(self, request: Any, *_: Any) -> pb.ModelMetadataResponse:  # noqa: ANN401
        return oip_grpc.encode_model(*self._worker.repository.version(request.name, _version(request)))

    async def _model_statistics(self, request: Any, *_: Any) -> pb.ModelStatisticsResponse:  # noqa: ANN401
        found = self._worker.repository.statistics(request.name or None, _version(request))
        return await oip_grpc.encode_statistics(found)

    async def _repository_index(self, request: Any, *_: Any) -> pb.RepositoryIndexResponse:  # noqa: ANN401
        return await oip_grpc.encode_index(self._worker.repository.index(ready=request.ready))

    async def _repository_load(self, request: Any, *_: Any) -> pb.RepositoryModelLoadResponse:  # noqa: ANN401
        refuse_override(request.parameters)
        await self._worker.repository.load(request.model_name)
        return pb.RepositoryModelLoadResponse()

    async def _repository_unload(self, request: Any, *_: Any) -> pb.RepositoryModelUnloadResponse:  # noqa: ANN401
        self._worker.repository.unload(request.model_name)
        return pb.RepositoryModelUnloadResponse()

    async def _health(self, request: Any, context: Context) -> health_pb2.HealthCheckResponse:  # noqa: ANN401
        if request.service not in ("", _SERVICE):
            await context.abort(grpc.StatusCode.NOT_FOUND, f"there is no service {request.service!r:.80}")
        return health_pb2.HealthCheckResponse(status=self._serving())

    async def _watch(
        self,
        request: Any,  # noqa: ANN401
        context: Context,
    ) -> AsyncIterator[health_pb2.HealthCheckResponse]:
        unknown = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
        told = None
        while True:
            now = self._serving() if request.service in ("", _SERVICE) else unknown
            if now != told:
                told = now
                yield health_pb2.HealthCheckResponse(status=now)
            if self._worker.draining:
                return
            await asyncio.sleep(_HEALTH_POLL_SECONDS)

    def _serving(self) -> int:
        kinds = health_pb2.HealthCheckResponse
        status: int = kinds.SERVING if self._worker.ready else kinds.NOT_SERVING
        return status


class GrpcServer:
    """A gRPC server on the running loop."""

    def __init__(self, door: GrpcDoor, max_body_bytes: int, drain_seconds: float) -> None:
        """Take the services, the largest message to read, and how long closing waits for calls in flight."""
        self._door = door
        self._max_body_bytes = max_body_bytes
        self._drain_seconds = drain_seconds
        self._server: grpc.aio.Server | None = None

    async def open(self, host: str, port: int) -> int:
        """Listen, and return the port: the one asked for, or with 0 a free one.

        Raises:
            OSError: the port is taken.
        """
        options = (
            ("grpc.max_receive_message_length", self._max_body_bytes),
            ("grpc.max_send_message_length", -1),
            ("grpc.so_reuseport", 0),
        )
        server = grpc.aio.server(options=options)
        server.add_generic_rpc_handlers(self._door.handlers())
        try:
            bound: int = server.add_insecure_port(f"{host}:{port}")
        except RuntimeError as error:
            raise OSError(f"cannot listen on {host}:{port}: {error}") from error
        await server.start()
        self._server = server
        return bound

    async def close(self) -> None:
        """Take no more calls and return when those in flight are answered, or the time for it is over."""
        if self._server is not None:
            await self._server.stop(self._drain_seconds)


def _version(request: Any) -> int | None:  # noqa: ANN401
    return parse_version(request.version) if request.version else None
