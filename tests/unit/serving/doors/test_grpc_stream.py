"""A stream of requests over gRPC: answered in order, an error each by itself, no more read than may be under way."""

# ruff: noqa: ANN401 - generated messages have no types

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import numpy as np
import pytest

from registry.records.release import NonFinite, ServingPolicy
from serving.doors import grpc_stream
from serving.doors.grpc_server import grpc_server
from serving.doors.protocol import open_inference_pb2 as pb
from serving.engine.worker import Worker
from tests.unit.serving.doors.rest_client import VERSIONS
from tests.unit.serving.engine.doubles import FakeWorld, run, until


def asked(number: float, rows: int = 1, **changes: Any) -> Any:
    values = np.full((rows, 2), number, np.float32)
    tensor = pb.ModelInferRequest.InferInputTensor(name="x", datatype="FP32", shape=values.shape)
    fields = {"model_name": "m", "id": str(number), "inputs": [tensor], "raw_input_contents": [values.tobytes()]}
    return pb.ModelInferRequest(**{**fields, **changes})


def answered(response: Any) -> float:
    return float(np.frombuffer(response.infer_response.raw_output_contents[0], np.float32)[0])


@asynccontextmanager
async def open_stream(worker: Worker) -> AsyncIterator[Any]:
    await worker.start()
    await worker.repository.load("m")  # or, of the requests of a stream, only one might wait for that
    server = grpc_server(worker, 100_000, drain_seconds=5, max_calls=100)
    port = await server.open("127.0.0.1", 0)
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield channel.stream_stream(
            "/inference.GRPCInferenceService/ModelStreamInfer",
            request_serializer=pb.ModelInferRequest.SerializeToString,
            response_deserializer=pb.ModelStreamInferResponse.FromString,
        )
    await server.close()
    await worker.stop()


def test_every_request_has_its_answer_in_order_and_an_error_ends_nothing(worker: Worker) -> None:
    async def work() -> None:
        async with open_stream(worker) as stream:
            requests = [asked(0), asked(1, model_name="nobody"), asked(2, model_version="2"), asked(3, inputs=[])]
            requests += [asked(number) for number in range(4, 200)]
            found = [response async for response in stream(iter(requests), timeout=60)]
            assert [response.infer_response.id for response in found] == [request.id for request in requests]
            assert found[1].error_message == "there is no model nobody"
            assert found[3].error_message.startswith("raw_input_contents: expected one for each of 0 inputs")
            assert [answered(found[place]) for place in (0, 2, 4, 199)] == [0, 4, 4, 199]
            assert all(one.infer_response.parameters["triton_final_response"].bool_param for one in found[4:])
            assert len({one.infer_response.parameters["request_id"].string_param for one in found[4:]}) == 196

    run(work())


def test_bytes_that_are_no_message_and_ids_that_are_none_are_refused(worker: Worker) -> None:
    async def work() -> None:
        async with open_stream(worker) as stream:
            stream._request_serializer = lambda request: (
                request if isinstance(request, bytes) else request.SerializeToString()
            )
            found = [response async for response in stream(iter([b"\xff", asked(1)]), timeout=60)]
            assert found[0].error_message.startswith("the message: Error parsing")
            assert answered(found[1]) == 1
            with pytest.raises(grpc.aio.AioRpcError) as failed:
                await stream(iter([asked(1)]), metadata=(("x-request-id", "a b"),), timeout=60).read()
            assert failed.value.code() is grpc.StatusCode.INVALID_ARGUMENT

    run(work())


def test_a_stream_is_read_as_far_as_it_is_answered_and_left_when_its_client_goes(
    world: FakeWorld, worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(grpc_stream, "STREAM_WINDOW", 1)
    session = world.sessions[VERSIONS[0].artifact.sha256]

    async def work() -> None:
        async with open_stream(worker) as stream:
            call = stream(timeout=60)
            await call.write(asked(1))
            assert answered(await call.read()) == 1
            session.may_run.clear()
            session.running.clear()
            for _ in range(20):
                await call.write(asked(2, rows=500))
            await until(session.running.is_set)
            await asyncio.sleep(0.2)
            call.cancel()
            session.may_run.set()
            await until(lambda: worker.engine.route("m", None, "").batcher.waiting == 0)  # type: ignore[union-attr]
            assert len(session.shapes) <= 2, "more was computed than may be under way"
            found = [answered(response) async for response in stream(iter([asked(5)]), timeout=60)]
            assert found == [5]

    run(work())


def test_nan_passes_where_the_models_policy_lets_it(worker: Worker) -> None:
    typed = pb.ModelInferRequest.InferInputTensor(
        name="x", datatype="FP32", shape=[1, 2], contents=pb.InferTensorContents(fp32_contents=[np.nan, np.inf])
    )

    async def work() -> None:
        async with open_stream(worker) as stream:
            both = [asked(np.nan), asked(0, inputs=[typed], raw_input_contents=[])]
            refused = [response.error_message async for response in stream(iter(both), timeout=60)]
            assert refused == [
                "inputs[0]: a value is not a finite number",
                "inputs[0].data: a value is not a finite number",
            ]
            worker.live.route("m", None, "").policy = ServingPolicy(non_finite=NonFinite.PASS)
            assert all(np.isnan([answered(response) async for response in stream(iter(both), timeout=60)]))

    run(work())
