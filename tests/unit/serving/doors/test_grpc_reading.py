"""Calls over gRPC that are slow to send, or too many: only as many are read as there is room for."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest

from registry.records.tenant import TENANT_HEADER
from serving.doors.grpc import GrpcDoor, GrpcServer
from serving.doors.protocol import open_inference_pb2 as pb
from serving.engine.shared_bound import SharedBound
from serving.engine.worker import Worker
from tests.unit.serving.doors.test_grpc import Client, answered, asked
from tests.unit.serving.engine.doubles import run, until

INFER = "/inference.GRPCInferenceService/ModelInfer"
STREAM = "/inference.GRPCInferenceService/ModelStreamInfer"
MESSAGE_BYTES = 100_000


async def opened(worker: Worker, max_calls: int | None = None) -> tuple[GrpcServer, str]:
    await worker.start()
    server = GrpcServer(GrpcDoor(worker, MESSAGE_BYTES), drain_seconds=1, max_calls=max_calls)
    return server, f"127.0.0.1:{await server.open('127.0.0.1', 0)}"


def never_sent(channel: Any, tenant: str) -> Any:  # noqa: ANN401 - the library ships no types
    """A call whose message does not come: to the server it is one like any other."""

    async def nothing() -> AsyncIterator[bytes]:
        await asyncio.sleep(30)
        yield b""

    return channel.stream_unary(INFER)(nothing(), metadata=((TENANT_HEADER, tenant),), timeout=20)


def test_calls_that_do_not_send_are_ended_beyond_the_bound_and_others_are_answered(worker: Worker) -> None:
    worker.bodies = SharedBound(4 * MESSAGE_BYTES)

    async def work() -> None:
        server, address = await opened(worker)
        async with grpc.aio.insecure_channel(address) as channel:
            slow = [never_sent(channel, "flood") for _ in range(12)]
            await until(lambda: sum(call.done() for call in slow) == 9)
            assert worker.bodies.total == 3 * MESSAGE_BYTES
            codes = {await call.code() for call in slow if call.done()}
            assert codes == {grpc.StatusCode.RESOURCE_EXHAUSTED}
            assert answered(await Client(channel)("ModelInfer", **asked())) == [1, 2]
            quiet = never_sent(channel, "quiet")
            await until(lambda: worker.bodies.total == 4 * MESSAGE_BYTES)
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await Client(channel)("ModelInfer", **asked())
            assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            assert ("grpc-retry-pushback-ms", "1000") in tuple(refused.value.trailing_metadata() or ())
            for call in (*slow, quiet):
                call.cancel()
            await until(lambda: worker.bodies.total == 0)
            assert answered(await Client(channel)("ModelInfer", **asked())) == [1, 2]
        await server.close()
        await worker.stop()

    run(work())


def test_a_stream_counts_as_long_as_it_is_open(worker: Worker) -> None:
    worker.bodies = SharedBound(2 * MESSAGE_BYTES)

    async def work() -> None:
        server, address = await opened(worker)
        async with grpc.aio.insecure_channel(address) as channel:
            method = channel.stream_stream(
                STREAM,
                request_serializer=pb.ModelInferRequest.SerializeToString,
                response_deserializer=pb.ModelStreamInferResponse.FromString,
            )
            first = method()
            await first.write(pb.ModelInferRequest(**asked()))
            assert (await first.read()).infer_response.model_name == "m"
            assert worker.bodies.total == MESSAGE_BYTES
            second = method()
            await until(lambda: worker.bodies.total == 2 * MESSAGE_BYTES)
            third = method()
            assert await third.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            for call in (first, second):
                await call.done_writing()
                assert await call.read() is grpc.aio.EOF
            await until(lambda: worker.bodies.total == 0)
        await server.close()
        await worker.stop()

    run(work())


def test_calls_beyond_the_number_that_may_be_are_refused(worker: Worker) -> None:
    async def work() -> None:
        server, address = await opened(worker, max_calls=2)
        async with grpc.aio.insecure_channel(address) as channel:
            slow = [never_sent(channel, "a") for _ in range(2)]
            await until(lambda: worker.bodies.total == 2 * MESSAGE_BYTES)
            code, _ = await Client(channel).refused("ServerLive")
            assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
            for call in slow:
                call.cancel()
        await server.close()
        await worker.stop()

    run(work())
