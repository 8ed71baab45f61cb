"""Calls and requests of streams over gRPC that fail: they say what was to answer them, and are counted and traced."""

from typing import Any

import grpc
import pytest

from serving.doors.grpc_server import grpc_server
from serving.doors.protocol import open_inference_pb2 as pb
from serving.engine.worker import Worker
from tests.unit.serving.doors.collector import Collector, attributes
from tests.unit.serving.doors.rest_client import VERSIONS
from tests.unit.serving.doors.test_grpc_stream import asked, open_stream
from tests.unit.serving.doors.test_tracing import SAMPLED, TRACE, UNSAMPLED, collector, traced
from tests.unit.serving.engine.doubles import run

__all__ = ["collector", "traced"]  # fixtures


def test_a_failed_call_says_its_version_and_gives_its_trace_back(traced: Worker, collector: Collector) -> None:
    async def failed(infer: Any, request: Any, traceparent: str) -> dict[str, str]:  # noqa: ANN401 - no types there
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await infer(request, metadata=(("traceparent", traceparent),))
        return dict(error.value.trailing_metadata() or ())

    async def work() -> None:
        await traced.start()
        server = grpc_server(traced, 100_000, drain_seconds=5, max_calls=100)
        port = await server.open("127.0.0.1", 0)
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            infer = channel.unary_unary(
                "/inference.GRPCInferenceService/ModelInfer",
                request_serializer=pb.ModelInferRequest.SerializeToString,
            )
            told = await failed(infer, asked(1, inputs=[]), SAMPLED)
            assert told["traceparent"].startswith(f"00-{TRACE}-") and told["traceparent"] != SAMPLED
            assert len(told["x-request-id"]) == 32
            assert (told["x-burnish-model"], told["x-burnish-version"]) == ("m", "1")
            assert told["x-burnish-artifact"] == VERSIONS[0].artifact.sha256
            nobody = await failed(infer, asked(1, model_name="nobody"), UNSAMPLED)
            assert nobody.keys() == {"x-request-id", "traceparent"}
            assert nobody["traceparent"] == UNSAMPLED
        await server.close()
        await traced.stop()

    run(work())
    (span,) = map(attributes, collector.spans)
    assert span["burnish.status"] == "INVALID_ARGUMENT"


def test_each_request_of_a_stream_is_counted_and_leaves_its_span(traced: Worker, collector: Collector) -> None:
    async def work() -> None:
        async with open_stream(traced) as stream:
            requests = [asked(0), asked(1, model_name="nobody"), asked(2, inputs=[])]
            call = stream(iter(requests), metadata=(("traceparent", SAMPLED),), timeout=60)
            found = [response.infer_response async for response in call]
        assert found[2].model_version == "1"
        assert found[2].parameters["artifact"].string_param == VERSIONS[0].artifact.sha256
        ids = [one.parameters["request_id"].string_param for one in found]
        spans = {of["burnish.request_id"]: of["burnish.status"] for of in map(attributes, collector.spans)}
        assert spans == dict(zip(ids, ("OK", "NOT_FOUND", "INVALID_ARGUMENT"), strict=True))

    run(work())
    assert traced.failures.counts == {("grpc", "NOT_FOUND"): 1, ("grpc", "INVALID_ARGUMENT"): 1}
    assert {span.trace_id.hex() for span in collector.spans} == {TRACE}


def test_what_a_stream_moves_is_on_the_bill(worker: Worker) -> None:
    requests = [asked(number) for number in range(3)]

    async def work() -> None:
        async with open_stream(worker) as stream:
            found = [response async for response in stream(iter(requests), timeout=60)]
        account = dict(worker.usage())["m"]
        assert account["requests"] == len(requests)
        assert account["received_bytes"] == sum(request.ByteSize() for request in requests)
        assert account["sent_bytes"] == sum(response.ByteSize() for response in found)

    run(work())
