"""The gRPC door over a real connection: the protocol's calls, and every bad request by its status."""

# ruff: noqa: ANN401 - generated messages have no types

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2

from serving.doors.grpc_server import grpc_server
from serving.doors.protocol import open_inference_pb2 as pb
from serving.engine.catalog import write_entry
from serving.engine.worker import Worker
from tests.unit.serving.doors.rest_client import VERSIONS
from tests.unit.serving.engine.doubles import FakeWorld, entry, run, until

X = np.array([[1, 2]], np.float32)


class Client:
    """Calls by name, and the status of those that fail."""

    def __init__(self, channel: Any) -> None:
        self._channel = channel

    async def __call__(self, call_name: str, /, metadata: tuple[tuple[str, str], ...] = (), **fields: Any) -> Any:
        return await self.call(call_name, metadata, **fields)

    def call(self, call_name: str, /, metadata: tuple[tuple[str, str], ...] = (), **fields: Any) -> Any:
        request = getattr(pb, f"{call_name}Request")(**fields)
        call = self._channel.unary_unary(
            f"/inference.GRPCInferenceService/{call_name}",
            request_serializer=type(request).SerializeToString,
            response_deserializer=getattr(pb, f"{call_name}Response").FromString,
        )
        return call(request, metadata=metadata, timeout=30)

    async def refused(self, call_name: str, /, **fields: Any) -> tuple[grpc.StatusCode, str]:
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await self(call_name, **fields)
        return failed.value.code(), failed.value.details() or ""

    async def health(self, service: str = "") -> int:
        call = self._channel.unary_unary(
            "/grpc.health.v1.Health/Check",
            request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
            response_deserializer=health_pb2.HealthCheckResponse.FromString,
        )
        status: int = (await call(health_pb2.HealthCheckRequest(service=service), timeout=30)).status
        return status


@asynccontextmanager
async def open_door(worker: Worker) -> AsyncIterator[Client]:
    await worker.start()
    server = grpc_server(worker, 100_000, drain_seconds=5, max_calls=100)
    port = await server.open("127.0.0.1", 0)
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield Client(channel)
    await server.close()
    await worker.stop()


def tensor(**changes: Any) -> Any:
    fields = {"name": "x", "datatype": "FP32", "shape": X.shape, **changes}
    return pb.ModelInferRequest.InferInputTensor(**fields)


def asked(**changes: Any) -> dict[str, Any]:
    return {"model_name": "m", "inputs": [tensor()], "raw_input_contents": [X.tobytes()], **changes}


def answered(response: Any) -> list[float]:
    values: list[float] = np.frombuffer(response.raw_output_contents[0], np.float32).tolist()
    return values


def test_an_answer_names_what_made_it(worker: Worker) -> None:
    async def work() -> None:
        async with open_door(worker) as client:
            response = await client("ModelInfer", metadata=(("x-request-id", "r-1"),), **asked(id="mine"))
            assert (response.model_name, response.model_version, response.id) == ("m", "1", "mine")
            assert response.parameters["artifact"].string_param == VERSIONS[0].artifact.sha256
            assert response.parameters["request_id"].string_param == "r-1"
            assert [(one.name, one.datatype, list(one.shape)) for one in response.outputs] == [("y", "FP32", [1, 2])]
            assert answered(response) == [1, 2]
            assert answered(await client("ModelInfer", **asked(model_version="2"))) == [2, 4]
            typed = tensor(contents=pb.InferTensorContents(fp32_contents=[1, 2]))
            assert answered(await client("ModelInfer", **asked(inputs=[typed], raw_input_contents=[]))) == [1, 2]
            outputs = [pb.ModelInferRequest.InferRequestedOutputTensor(name="y")]
            assert answered(await client("ModelInfer", **asked(outputs=outputs))) == [1, 2]

    run(work())


BAD: list[tuple[dict[str, Any], grpc.StatusCode, str]] = [
    (asked(model_name="nobody"), grpc.StatusCode.NOT_FOUND, "there is no model nobody"),
    (asked(model_version="9"), grpc.StatusCode.NOT_FOUND, "m has no version 9"),
    (asked(model_version="x"), grpc.StatusCode.INVALID_ARGUMENT, "the version: expected"),
    (asked(id="a" * 129), grpc.StatusCode.INVALID_ARGUMENT, "id: expected a string of at most 128 characters"),
    (asked(inputs=[]), grpc.StatusCode.INVALID_ARGUMENT, "raw_input_contents: expected one for each of 0 inputs"),
    (asked(inputs=[], raw_input_contents=[]), grpc.StatusCode.INVALID_ARGUMENT, "inputs: expected exactly ['x']"),
    (asked(inputs=[tensor(name="z")]), grpc.StatusCode.INVALID_ARGUMENT, "inputs: expected exactly ['x']"),
    (asked(inputs=[tensor(datatype="FP64")]), grpc.StatusCode.INVALID_ARGUMENT, "inputs[0].datatype: expected FP32"),
    (asked(inputs=[tensor(shape=[1, 3])]), grpc.StatusCode.INVALID_ARGUMENT, "inputs[0].shape[1]: expected 2, got 3"),
    (asked(inputs=[tensor(shape=[2**40, 2])]), grpc.StatusCode.INVALID_ARGUMENT, "expected 8796093022208 bytes"),
    (asked(raw_input_contents=[b"1"]), grpc.StatusCode.INVALID_ARGUMENT, "inputs[0]: expected 8 bytes"),
    (asked(raw_input_contents=[]), grpc.StatusCode.INVALID_ARGUMENT, "inputs[0].data: expected 2 values"),
    (
        asked(inputs=[tensor(contents=pb.InferTensorContents(fp32_contents=[1, 2]))]),
        grpc.StatusCode.INVALID_ARGUMENT,
        "contents beside raw_input_contents",
    ),
    (
        asked(outputs=[pb.ModelInferRequest.InferRequestedOutputTensor(name="q")]),
        grpc.StatusCode.INVALID_ARGUMENT,
        "outputs[0].name",
    ),
    (
        asked(raw_input_contents=[np.full((1, 2), np.inf, np.float32).tobytes()]),
        grpc.StatusCode.INVALID_ARGUMENT,
        "not a finite number",
    ),
    (asked(raw_input_contents=[b"x" * 200_000]), grpc.StatusCode.RESOURCE_EXHAUSTED, "larger than max"),
]


def test_a_bad_request_is_refused_by_name(worker: Worker) -> None:
    async def work() -> None:
        async with open_door(worker) as client:
            for fields, status, message in BAD:
                code, details = await client.refused("ModelInfer", **fields)
                assert (code, message in details) == (status, True), (fields, code, details)
            assert answered(await client("ModelInfer", **asked())) == [1, 2]

    run(work())


def test_a_failing_session_and_a_failed_load_have_their_own_status(world: FakeWorld, worker: Worker) -> None:
    first, second = (world.sessions[version.artifact.sha256] for version in VERSIONS)

    async def work() -> None:
        async with open_door(worker) as client:
            await client("ModelInfer", **asked())
            first.broken = second.broken = True
            assert (await client.refused("ModelInfer", **asked()))[0] is grpc.StatusCode.INTERNAL
            code, details = await client.refused("ModelInfer", **asked(model_version="2"))
            assert code is grpc.StatusCode.UNAVAILABLE
            assert "m version 2 cannot be loaded" in details
            assert not (await client("ModelReady", name="m", version="2")).ready
            index = (await client("RepositoryIndex")).models
            assert [(one.version, one.state) for one in index if one.name == "m"] == [
                ("1", "READY"),
                ("2", "UNAVAILABLE"),
            ]
            ready = (await client("RepositoryIndex", ready=True)).models
            assert [one.version for one in ready if one.name == "m"] == ["1"]

    run(work())


def test_a_full_queue_and_a_deadline_have_their_own_status(world: FakeWorld, worker: Worker) -> None:
    session = world.sessions[VERSIONS[0].artifact.sha256]
    many = {"inputs": [tensor(shape=[500, 2])], "raw_input_contents": [np.ones((500, 2), np.float32).tobytes()]}

    async def work() -> None:
        async with open_door(worker) as client:
            await client("ModelInfer", **asked())
            session.running.clear()
            session.may_run.clear()
            held = [asyncio.create_task(client("ModelInfer", **asked(**many)))]
            await until(session.running.is_set)
            timeout = {"timeout": pb.InferParameter(int64_param=5000), "priority": pb.InferParameter(uint64_param=1)}
            code, details = await client.refused("ModelInfer", **asked(parameters=timeout))
            assert code is grpc.StatusCode.DEADLINE_EXCEEDED
            assert "did not answer within the time of the request" in details
            held.append(asyncio.create_task(client("ModelInfer", **asked())))
            await until(lambda: worker.engine.route("m", None, "").batcher.waiting == 1)  # type: ignore[union-attr]
            with pytest.raises(grpc.aio.AioRpcError) as full:
                await client("ModelInfer", **asked())
            assert full.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            assert int(dict(full.value.trailing_metadata())["grpc-retry-pushback-ms"]) >= 1000
            session.may_run.set()
            assert len([await task for task in held]) == 2
            wrong = {"timeout": pb.InferParameter(string_param="soon")}
            code, details = await client.refused("ModelInfer", **asked(parameters=wrong))
            assert (code, details[:19]) == (grpc.StatusCode.INVALID_ARGUMENT, "parameters.timeout:")

    run(work())


def test_an_answer_from_the_cache_says_so(worker: Worker, tmp_path: Path) -> None:
    caching = entry(1, {1: 100}, VERSIONS, cache_mib=1)
    write_entry(tmp_path / "catalog", caching)

    async def work() -> None:
        async with open_door(worker) as client:
            first, second = [await client("ModelInfer", **asked()) for _ in range(2)]
            assert [one.parameters["cache_hit"].bool_param for one in (first, second)] == [False, True]
            assert answered(first) == answered(second)
            stats = (await client("ModelStatistics", name="m", version="1")).model_stats[0].inference_stats
            assert (stats.cache_hit.count, stats.cache_miss.count) == (1, 1)

    run(work())


def test_server_and_models_describe_themselves(worker: Worker) -> None:
    async def work() -> None:
        async with open_door(worker) as client:
            assert (await client("ServerLive")).live
            assert (await client("ServerReady")).ready
            assert (await client("ServerMetadata")).name == "burnish"
            assert (await client("ModelReady", name="m")).ready
            model = await client("ModelMetadata", name="m")
            assert (model.name, list(model.versions), model.platform) == ("m", ["1", "2"], "burnish_fake")
            assert [(one.name, one.datatype, list(one.shape)) for one in model.inputs] == [("x", "FP32", [-1, 2])]
            assert (await client.refused("ModelMetadata", name="z"))[0] is grpc.StatusCode.NOT_FOUND
            assert await client.health() == health_pb2.HealthCheckResponse.SERVING
            worker.draining = True
            assert await client.health("inference.GRPCInferenceService") == health_pb2.HealthCheckResponse.NOT_SERVING
            with pytest.raises(grpc.aio.AioRpcError):
                await client.health("nothing")

    run(work())


def test_requests_are_counted_and_versions_loaded_and_unloaded(world: FakeWorld, worker: Worker) -> None:
    session = world.sessions[VERSIONS[0].artifact.sha256]

    async def work() -> None:
        async with open_door(worker) as client:
            await client("RepositoryModelLoad", model_name="m")
            assert len(world.loads) == 1
            for _ in range(3):
                await client("ModelInfer", **asked())
            stats = (await client("ModelStatistics", name="m", version="1")).model_stats[0]
            assert (stats.inference_count, stats.execution_count) == (3, 3)
            assert stats.inference_stats.success.count == 3
            assert stats.inference_stats.success.ns >= stats.inference_stats.compute_infer.ns > 0
            assert [(one.batch_size, one.compute_infer.count) for one in stats.batch_stats] == [(1, 3)]
            assert len((await client("ModelStatistics")).model_stats) == 4
            await client("RepositoryModelUnload", model_name="m")
            await until(lambda: session.closed)
            session.closed = False
            assert answered(await client("ModelInfer", **asked())) == [1, 2]
            assert len(world.loads) == 2

    run(work())


def test_a_closing_server_finishes_what_is_in_flight(world: FakeWorld, worker: Worker) -> None:
    session = world.sessions[VERSIONS[0].artifact.sha256]
    many = np.ones((500, 2), np.float32)

    async def work() -> None:
        await worker.start()
        server = grpc_server(worker, 100_000, drain_seconds=5, max_calls=100)
        port = await server.open("127.0.0.1", 0)
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            client = Client(channel)
            await client("ModelInfer", **asked())
            session.running.clear()
            session.may_run.clear()
            fields = asked(inputs=[tensor(shape=many.shape)], raw_input_contents=[many.tobytes()])
            in_flight = asyncio.create_task(client("ModelInfer", **fields))
            await until(session.running.is_set)
            closing = asyncio.create_task(server.close())
            await asyncio.sleep(0.2)
            assert not closing.done()
            session.may_run.set()
            assert len(answered(await in_flight)) == 1000
            await closing
        await worker.stop()

    run(work())
