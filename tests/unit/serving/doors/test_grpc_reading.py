"""Calls over gRPC that are slow to send, broken, or too many: only as much is kept as there is room for."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager

import pytest
from h2.errors import ErrorCodes
from h2.events import StreamReset

from registry.records.tenant import TENANT_HEADER
from serving.doors.grpc_server import grpc_server
from serving.doors.grpc_stream_call import StreamCall
from serving.doors.protocol import open_inference_pb2 as pb
from serving.engine.shared_bound import SharedBound
from serving.engine.worker import Worker
from tests.unit.serving.doors.http2_client import PATH, Http2Client, call_headers, framed
from tests.unit.serving.doors.test_grpc import asked
from tests.unit.serving.engine.doubles import run, until

STREAM = "/inference.GRPCInferenceService/ModelStreamInfer"
MESSAGE_BYTES = 100_000
HALF = framed(b"x" * MESSAGE_BYTES)[: MESSAGE_BYTES // 2]
COMPRESSED = framed(b"x", compressed=True)
INFER = framed(pb.ModelInferRequest(**asked()).SerializeToString())


@asynccontextmanager
async def opened(worker: Worker, max_calls: int = 100) -> AsyncIterator[int]:
    await worker.start()
    server = grpc_server(worker, MESSAGE_BYTES, drain_seconds=1, max_calls=max_calls)
    yield await server.open("127.0.0.1", 0)
    await server.close()
    await worker.stop()


async def slow(port: int, tenant: str, path: str = PATH) -> tuple[Http2Client, int]:
    """A call of which a half has come."""
    client = await Http2Client.connect(port)
    number = client.ask(None, call_headers(path, **{TENANT_HEADER: tenant}), end=False)
    for at in range(0, len(HALF), 16_000):
        client.h2.send_data(number, HALF[at : at + 16_000])
    client.flush()
    return client, number


async def status_of(client: Http2Client, number: int) -> dict[str, str]:
    await client.ended(number)
    return client.status(number)


async def infer(port: int) -> dict[str, str]:
    client = await Http2Client.connect(port)
    status = await status_of(client, client.ask(INFER))
    client.close()
    return status


@pytest.mark.parametrize("path", [PATH, STREAM])
def test_what_has_come_of_calls_counts_and_is_refused_beyond_the_bound(worker: Worker, path: str) -> None:
    worker.bodies = SharedBound(4 * len(HALF))

    async def work() -> None:
        async with opened(worker) as port:
            calls = [await slow(port, "flood", path) for _ in range(3)]
            await until(lambda: worker.bodies.total == 3 * len(HALF))
            refused, number = await slow(port, "flood", path)
            status = await status_of(refused, number)
            assert (status["grpc-status"], status["grpc-retry-pushback-ms"]) == ("8", "1000")
            assert "too much of other requests is being read" in status["grpc-message"]
            await refused.read_until(lambda: bool(refused.of(number, StreamReset)))
            assert refused.of(number, StreamReset)[0].error_code == ErrorCodes.NO_ERROR
            assert (await infer(port))["grpc-status"] == "0", "what comes whole is not kept"
            calls.append(await slow(port, "quiet", path))
            await until(lambda: worker.bodies.total == 4 * len(HALF))
            for client, number in calls[:2]:
                client.h2.reset_stream(number)
                client.flush()
            for client, _ in calls[2:]:
                client.close()
            await until(lambda: worker.bodies.total == 0)
            for client, _ in [*calls[:2], (refused, 0)]:
                client.close()

    run(work())


def test_a_stream_that_waits_holds_nothing(worker: Worker) -> None:
    async def work() -> None:
        async with opened(worker) as port:
            client = await Http2Client.connect(port)
            number = client.ask(INFER, call_headers(STREAM), end=False)
            await client.read_until(lambda: bool(client.status(number)))
            assert client.status(number)[":status"] == "200"
            await until(lambda: worker.bodies.total == 0)
            client.h2.end_stream(number)
            client.flush()
            assert (await status_of(client, number))["grpc-status"] == "0"
            client.close()

    run(work())


def test_what_is_taken_of_a_stream_whose_client_has_gone_counts_no_more(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[int] = []
    go_on = asyncio.Event()

    async def reads(call: StreamCall) -> AsyncGenerator[bytes, None]:
        async def read() -> None:
            async for message in call.messages():
                taken.append(len(message.content))
                await go_on.wait()

        await asyncio.shield(asyncio.create_task(read()))
        yield b""

    monkeypatch.setattr("serving.doors.grpc_server.stream_infer", reads)

    async def work() -> None:
        async with opened(worker) as port:
            client = await Http2Client.connect(port)
            number = client.ask(INFER + INFER + INFER[:20], call_headers(STREAM), end=False)
            await until(lambda: len(taken) == 1 and worker.bodies.total > 0)
            client.h2.reset_stream(number)
            client.flush()
            await until(lambda: worker.bodies.total == 0)
            go_on.set()
            await until(lambda: len(taken) == 2)
            assert worker.bodies.total == 0
            client.close()

    run(work())


def test_calls_beyond_the_number_that_may_be_are_refused(worker: Worker) -> None:
    async def work() -> None:
        async with opened(worker, max_calls=2) as port:
            calls = [await slow(port, "a"), await slow(port, "a", STREAM)]
            status = await infer(port)
            assert (status["grpc-status"], status["grpc-message"]) == ("8", "there are 2 calls at a time, and no more")
            for client, _ in calls:
                client.close()
            await until(lambda: worker.bodies.total == 0)
            assert (await infer(port))["grpc-status"] == "0"

    run(work())


def test_a_call_that_does_not_come_to_its_end_is_given_up(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serving.doors.server._SWEEP_SECONDS", 0.05)
    monkeypatch.setattr("serving.doors.grpc_call._READ_SECONDS", 0.2)

    async def work() -> None:
        async with opened(worker) as port:
            client, number = await slow(port, "a")
            status = await status_of(client, number)
            assert (status["grpc-status"], status["grpc-message"]) == ("4", "the message did not come within 0.2 s")
            assert status["x-request-id"]
            client.close()

    run(work())
    assert worker.failures.counts == {("grpc", "DEADLINE_EXCEEDED"): 1}


BROKEN = {
    "no message": (b"", call_headers(), {"grpc-status": "3"}),
    "half a message": (HALF, call_headers(), {"grpc-status": "3"}),
    "two messages": (INFER + INFER, call_headers(), {"grpc-status": "3"}),
    "a message too many, in part": (INFER + b"\0", call_headers(), {"grpc-status": "3"}),
    "too large by its prefix": (b"\0\xff\xff\xff\xff", call_headers(), {"grpc-status": "8"}),
    "too large in a stream": (b"\0\xff\xff\xff\xff", call_headers(STREAM), {"grpc-status": "8"}),
    "compressed, but how?": (COMPRESSED, call_headers(), {"grpc-status": "3"}),
    "not in that coding": (COMPRESSED, call_headers(**{"grpc-encoding": "gzip"}), {"grpc-status": "3"}),
    "an unknown coding": (INFER, call_headers(**{"grpc-encoding": "br"}), {"grpc-status": "12"}),
    "no such method": (INFER, call_headers("/inference.GRPCInferenceService/Nothing"), {"grpc-status": "12"}),
    "no time": (INFER, call_headers(**{"grpc-timeout": "soon"}), {"grpc-status": "13"}),
    "no call": (INFER, call_headers(**{"content-type": "text/plain"}), {":status": "415"}),
}  # fmt: skip


@pytest.mark.parametrize(("body", "headers", "expected"), BROKEN.values(), ids=BROKEN.keys())
def test_a_call_that_cannot_be_read_is_refused_and_the_next_is_answered(
    worker: Worker, body: bytes, headers: list[tuple[str, str]], expected: dict[str, str]
) -> None:
    async def work() -> None:
        async with opened(worker) as port:
            client = await Http2Client.connect(port)
            number = client.h2.get_next_available_stream_id()
            client.h2.send_headers(number, headers)
            for at in range(0, len(body), 16_000):
                client.h2.send_data(number, body[at : at + 16_000])
            client.h2.end_stream(number)
            client.flush()
            found = await status_of(client, number)
            assert {name: found[name] for name in expected} == expected
            assert (await status_of(client, client.ask(INFER)))["grpc-status"] == "0"
            assert worker.bodies.total == 0
            client.close()

    run(work())
