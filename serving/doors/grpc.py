"""The gRPC door: Open Inference Protocol v2, the repository and statistics extensions, and ``grpc.health.v1``.

Source: https://github.com/kserve/open-inference-protocol, specification/protocol/inference_grpc.md.
"""

import asyncio
from collections.abc import AsyncIterator
from functools import partial
from typing import Any, NamedTuple

import grpc

from registry.errors import BurnishError, InputError, QueueFull
from serving.doors import oip_grpc
from serving.doors.grpc_calls import CallMetadata, Context, Received, code_of, read, read_metadata, reader
from serving.doors.grpc_health import GrpcHealth
from serving.doors.grpc_reading import Readings
from serving.doors.grpc_state import GrpcState
from serving.doors.observed_grpc import Observer
from serving.doors.protocol import open_inference_pb2 as pb
from serving.doors.requests import new_request_id, parse_version
from serving.engine.infer import Answer, Asked
from serving.engine.slot import Slot
from serving.engine.tensors import TensorPlan
from serving.engine.urgency import ROUTINE, Urgency
from serving.engine.worker import Worker
from serving.runtime import Arrays

_SERVICE = "inference.GRPCInferenceService"
_STREAM_WINDOW = 64
"""Requests of one stream that may be under way; more are read when some are answered."""
_FINAL_RESPONSE = "triton_final_response"
"""Tells Triton's clients that a request of a stream gets no further answer."""


class _Begun(NamedTuple):
    """A request that was read, and its answer if it did not have to wait."""

    inputs: Arrays
    wanted: tuple[TensorPlan, ...]
    urgency: Urgency
    answer: Answer | None


class GrpcDoor:
    """The gRPC services over one worker."""

    def __init__(self, worker: Worker, max_body_bytes: int) -> None:
        """Take the worker that answers, and the largest message to read."""
        self.max_body_bytes = max_body_bytes
        self._worker = worker
        self._readings = Readings(worker.bodies, max_body_bytes)
        self._observer = Observer(worker, self._readings)

    def handlers(self) -> tuple[grpc.GenericRpcHandler, ...]:
        """Return what a server is given: the inference service and the health service.

        To the server every call is a stream, or its message would be read before anything is asked here.
        """
        inference = {
            name: grpc.stream_unary_rpc_method_handler(
                self._observer.watch(call, traced=False),
                request_deserializer=reader(getattr(pb, f"{name}Request")),
                response_serializer=getattr(pb, f"{name}Response").SerializeToString,
            )
            for name, call in GrpcState(self._worker).calls().items()
        }
        read_inference = reader(pb.ModelInferRequest)  # answers are written where they are counted
        inference["ModelInfer"] = grpc.stream_unary_rpc_method_handler(
            self._observer.watch(self._model_infer, traced=True), request_deserializer=read_inference
        )
        inference["ModelStreamInfer"] = grpc.stream_stream_rpc_method_handler(
            self._model_stream_infer, request_deserializer=read_inference
        )
        service = grpc.method_handlers_generic_handler(_SERVICE, inference)
        return service, GrpcHealth(self._worker, _SERVICE).handler()

    async def _model_infer(self, request: Any, about: CallMetadata, context: Context) -> bytes:  # noqa: ANN401
        about.check()
        slot = self._route(request, about)
        try:
            response = await self._answered(slot, request, about, context)
        except BurnishError:
            context.set_trailing_metadata(slot.lineage_for(about.tenant).metadata)
            raise
        return _written(slot, about, response)

    def _route(self, request: Any, about: CallMetadata) -> Slot:  # noqa: ANN401
        version = parse_version(request.model_version) if request.model_version else None
        return self._worker.engine.route(request.model_name, version, about.unit_id, about.tenant)

    async def _answered(
        self,
        slot: Slot,
        request: Any,  # noqa: ANN401
        about: CallMetadata,
        context: Context,
    ) -> pb.ModelInferResponse:
        turns, begin = self._worker.turns, partial(self._begin, slot, request, about)
        if about.tenant == turns.alone or turns.may_go(about.tenant):
            begun = begin()
        else:
            begun = await turns.in_turn(about.tenant, about.size, begin)
        answer = begun.answer
        if answer is None:
            urgency = begun.urgency.within(context.time_remaining())
            answer = await self._worker.engine.infer(slot, about.request_id, begun.inputs, urgency)
        return oip_grpc.encode_answer(answer, slot.lineage_for(about.tenant), begun.wanted, request.id)

    def _begin(self, slot: Slot, request: Any, about: CallMetadata) -> _Begun:  # noqa: ANN401
        """Read a request, and answer it if that need not wait."""
        if about.retried:
            self._worker.guard.check_retried(slot.served)
        inputs = oip_grpc.decode_inputs(request, slot.plan, finite=slot.finite_only)
        wanted = oip_grpc.wanted_outputs(request, slot.plan)
        urgency = Urgency.of(oip_grpc.parameters(request)) if request.parameters else ROUTINE
        asked = Asked(slot, about.request_id, inputs)
        self._worker.engine.infer_now([asked])
        if isinstance(asked.outcome, BurnishError):
            raise asked.outcome
        return _Begun(inputs, wanted, urgency, asked.outcome)

    async def _model_stream_infer(self, requests: AsyncIterator[Received], context: Context) -> AsyncIterator[bytes]:
        """Answer each request of a stream, in their order; some are computed at once, so that they share runs."""
        about = read_metadata(context, 0)
        try:
            about.check()
            with self._readings.stream(context):
                async for answer in self._answers(requests, about, context):
                    yield answer
        except (InputError, QueueFull) as error:
            await self._observer.refuse(None, about, context, error)

    async def _answers(
        self, requests: AsyncIterator[Received], about: CallMetadata, context: Context
    ) -> AsyncIterator[bytes]:
        working: asyncio.Queue[asyncio.Task[bytes] | None] = asyncio.Queue()
        window = asyncio.Semaphore(_STREAM_WINDOW)
        tasks: set[asyncio.Task[Any]] = set()

        async def read() -> None:
            try:
                async for received in requests:
                    await window.acquire()
                    one = about._replace(request_id=new_request_id(), size=received.size)
                    task = asyncio.create_task(self._streamed(received, one, context))
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

    async def _streamed(self, received: Received, about: CallMetadata, context: Context) -> bytes:
        """Answer one request of a stream, watched as a call of its own is; a failure is an answer as well."""
        trace = self._observer.begin(about)
        failed, slot = pb.ModelInferResponse(), None
        try:
            request = read(received)
            failed = pb.ModelInferResponse(model_name=request.model_name, id=request.id)
            slot = self._route(request, about)
            response = await self._answered(slot, request, about, context)
        except asyncio.CancelledError:
            self._observer.end(trace, about, "CANCELLED")
            raise
        except BurnishError as error:
            self._observer.failed(trace, about, code_of(error).name, str(error))
            if slot is not None:
                failed.model_version = slot.lineage.version
                failed.parameters["artifact"].string_param = slot.lineage.artifact
            failed.parameters["request_id"].string_param = about.request_id
            return _bytes(pb.ModelStreamInferResponse(error_message=str(error), infer_response=failed))
        self._observer.end(trace, about, "OK")
        response.parameters[_FINAL_RESPONSE].bool_param = True
        return _written(slot, about, pb.ModelStreamInferResponse(infer_response=response))


def _written(slot: Slot, about: CallMetadata, response: Any) -> bytes:  # noqa: ANN401
    """Write an answer, and count what came and goes for it."""
    content = _bytes(response)
    slot.statistics.account.moved(about.size, len(content))
    return content


def _bytes(response: Any) -> bytes:  # noqa: ANN401
    content: bytes = response.SerializeToString()
    return content


class GrpcServer:
    """A gRPC server on the running loop."""

    def __init__(self, door: GrpcDoor, drain_seconds: float, max_calls: int | None = None) -> None:
        """Take the services, how long closing waits for calls in flight, and how many there may be."""
        self._door = door
        self._drain_seconds = drain_seconds
        self._max_calls = max_calls
        self._server: grpc.aio.Server | None = None

    async def open(self, host: str, port: int) -> int:
        """Listen, and return the port: the one asked for, or with 0 a free one.

        Raises:
            OSError: the port is taken.
        """
        options = (
            ("grpc.max_receive_message_length", self._door.max_body_bytes),
            ("grpc.max_send_message_length", -1),
            ("grpc.so_reuseport", 0),
        )
        server = grpc.aio.server(options=options, maximum_concurrent_rpcs=self._max_calls)
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
