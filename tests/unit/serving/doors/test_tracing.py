"""Traces: both doors read and give back the W3C context; sampled requests reach a real OTLP collector."""

from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from serving.doors.grpc_server import grpc_server
from serving.doors.protocol import open_inference_pb2 as pb
from serving.engine import tracing
from serving.engine.trace_context import read_parent
from serving.engine.worker import Worker
from serving.settings import EngineSettings
from tests.unit.serving.doors.collector import Collector, attributes, open_collector
from tests.unit.serving.doors.rest_client import INFER, body, open_door
from tests.unit.serving.engine.doubles import FakeWorld, run, served

TRACE = "0af7651916cd43dd8448eb211c80319c"
SPAN = "b7ad6b7169203331"
SAMPLED = f"00-{TRACE}-{SPAN}-01"
UNSAMPLED = f"00-{TRACE}-{SPAN}-00"
ROWS = {"name": "x", "datatype": "FP32", "shape": [400, 2], "data": [0.0] * 800}
"""Too many rows to run on the loop."""


@pytest.fixture
def collector() -> Iterator[Collector]:
    with open_collector() as collector:
        yield collector


@pytest.fixture
def traced(
    worker: Worker, collector: Collector, world: FakeWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Worker:
    """The worker, sending its traces to the collector when it stops, and however long that takes."""
    del worker  # its catalog is read by this one too
    for name, seconds in (("_DELAY_MS", 600_000), ("_SEND_SECONDS", 60.0), ("_CLOSE_SECONDS", 60.0)):
        monkeypatch.setattr(tracing, name, seconds)
    settings = EngineSettings(
        catalog_folder=tmp_path / "catalog",
        artifacts_folder=tmp_path / "artifacts",
        capture_folder=tmp_path / "capture",
        capture_rate=0,
        otlp_endpoint=collector.url,
        service_name="burnish-test",
    )
    return Worker(settings, world, 3)


@pytest.mark.parametrize(
    "wrong",
    [
        "",
        "00",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-01-more",
        f"00-{TRACE.upper()}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-1",
        "x" * 200,
    ],
)
def test_a_context_that_breaks_the_rules_counts_as_none(wrong: str) -> None:
    assert read_parent(wrong) is None


def test_a_context_of_a_later_version_is_read_as_far_as_it_is_known() -> None:
    parent = read_parent(f"cc-{TRACE}-{SPAN}-03-what-comes-later")
    assert parent is not None
    assert (parent.trace_id, parent.sampled) == (TRACE, True)


def test_without_a_collector_the_context_is_given_back_as_it_came(worker: Worker) -> None:
    assert worker.tracing is None

    async def work() -> None:
        async with open_door(worker) as client:
            for path, given in ((INFER, SAMPLED), (INFER, UNSAMPLED), ("/v2/models/none/infer", SAMPLED)):
                reply = await client.post(path, json=body(), headers={"traceparent": given})
                assert reply.headers["traceparent"] == given
            reply = await client.post(INFER, json=body(inputs=[ROWS]), headers={"traceparent": SAMPLED})
            assert (reply.status_code, reply.headers["traceparent"]) == (200, SAMPLED)
            none: dict[str, str] = {}
            for headers in (none, {"traceparent": "nonsense"}):
                assert "traceparent" not in (await client.post(INFER, json=body(), headers=headers)).headers

    run(work())


def test_a_sampled_request_leaves_one_span_with_what_answered_it(traced: Worker, collector: Collector) -> None:
    async def work() -> None:
        async with open_door(traced) as client:
            for inputs in ([ROWS], body()["inputs"]):
                reply = await client.post(
                    INFER,
                    json=body(inputs=inputs),
                    headers={"traceparent": SAMPLED, "tracestate": "vendor=1", "x-request-id": "id-1"},
                )
                version, trace_id, span_id, flags = reply.headers["traceparent"].split("-")
                assert (version, trace_id, flags, span_id != SPAN) == ("00", TRACE, "01", True)
            await client.post(INFER, json=body(), headers={"traceparent": UNSAMPLED})
            await client.post(INFER, json=body())
            await client.get("/v2/health/live", headers={"traceparent": SAMPLED})

    run(work())
    first, second = collector.spans
    for span in (first, second):
        assert (span.name, span.trace_id.hex(), span.parent_span_id.hex()) == ("infer", TRACE, SPAN)
        assert (span.kind, span.trace_state, span.end_time_unix_nano > span.start_time_unix_nano) == (
            2,
            "vendor=1",
            True,
        )
        found = attributes(span)
        assert found["burnish.compute_ms"] > 0 <= found["burnish.queue_ms"]
        assert {
            name: found[f"burnish.{name}"] for name in ("request_id", "model", "version", "artifact", "status")
        } == {
            "request_id": "id-1",
            "model": "m",
            "version": 1,
            "artifact": served(1).artifact.sha256,
            "status": "200",
        }
    assert attributes(first)["burnish.queue_ms"] > 0
    assert collector.services == {"burnish-test"}
    assert traced.tracing is not None
    assert (traced.tracing.exported, traced.tracing.dropped) == (2, 0)


def test_a_request_without_a_trace_begins_one_at_the_rate(
    traced: Worker, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = iter([0.2, 0.7, 0.4])
    monkeypatch.setattr("serving.engine.tracing.random.random", lambda: next(drawn))
    monkeypatch.setattr(traced.tracing, "_rate", 0.5)

    async def work() -> None:
        async with open_door(traced) as client:
            begun = [("traceparent" in (await client.post(INFER, json=body())).headers) for _ in range(3)]
            assert begun == [True, False, True]

    run(work())
    assert len({span.trace_id for span in collector.spans}) == len(collector.spans) == 2
    assert [span.parent_span_id for span in collector.spans] == [b"", b""]


def test_a_request_that_fails_leaves_a_span_too(traced: Worker, collector: Collector, world: FakeWorld) -> None:
    async def work() -> None:
        async with open_door(traced) as client:
            headers = {"traceparent": SAMPLED}
            await client.post(INFER, json=body())
            world.sessions[served(1).artifact.sha256].broken = True
            assert (await client.post(INFER, json=body(), headers=headers)).status_code == 500
            assert (await client.post(INFER, content=b"nonsense", headers=headers)).status_code == 400

    run(work())
    broken, refused = collector.spans
    assert (broken.status.code, attributes(broken)["burnish.model"], attributes(broken)["burnish.status"]) == (
        2,
        "m",
        "500",
    )
    assert (refused.status.code, attributes(refused)["burnish.status"]) == (0, "400")


def test_the_grpc_door_reads_and_gives_back_the_context(traced: Worker, collector: Collector) -> None:
    request = pb.ModelInferRequest(model_name="m", raw_input_contents=[b"\0" * 8])
    request.inputs.add(name="x", datatype="FP32", shape=[1, 2])

    async def work() -> None:
        await traced.start()
        server = grpc_server(traced, 2**20, drain_seconds=5, max_calls=100)
        port = await server.open("127.0.0.1", 0)
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            infer = channel.unary_unary(
                "/inference.GRPCInferenceService/ModelInfer",
                request_serializer=pb.ModelInferRequest.SerializeToString,
                response_deserializer=pb.ModelInferResponse.FromString,
            )
            told = []
            for traceparent in (SAMPLED, UNSAMPLED):
                call = infer(request, metadata=(("traceparent", traceparent), ("x-request-id", "id-2")))
                await call
                told.append(dict(await call.trailing_metadata()))
            request.model_name = "none"
            with pytest.raises(grpc.aio.AioRpcError, match="there is no model none"):
                await infer(request, metadata=(("traceparent", SAMPLED), ("x-request-id", "id-3")))
        await server.close()
        await traced.stop()
        assert told[0]["traceparent"].startswith(f"00-{TRACE}-") and told[0]["traceparent"] != SAMPLED
        assert told[1] == {"x-request-id": "id-2", "traceparent": UNSAMPLED}

    run(work())
    answered, failed = map(attributes, collector.spans)
    assert (answered["burnish.request_id"], answered["burnish.model"]) == ("id-2", "m")
    assert (failed["burnish.request_id"], failed["burnish.status"]) == ("id-3", "NOT_FOUND")
    assert traced.failures.counts == {("grpc", "NOT_FOUND"): 1}


def test_spans_that_a_collector_does_not_take_are_dropped_and_counted(
    traced: Worker, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracing, "QUEUE_SPANS", 3)
    collector.hold.clear()

    async def work() -> None:
        async with open_door(traced) as client:
            for _ in range(5):
                reply = await client.post(INFER, json=body(), headers={"traceparent": SAMPLED})
                assert reply.status_code == 200
            assert traced.tracing is not None
            assert traced.tracing.dropped == 2
            assert reply.headers["traceparent"] == SAMPLED, "a span that does not exist is nobody's parent"
            collector.hold.set()

    run(work())
    assert traced.tracing is not None
    assert (traced.tracing.exported, traced.tracing.dropped, len(collector.spans)) == (3, 2, 3)


def test_the_collector_is_found_by_the_name_that_everybody_uses(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318")
    monkeypatch.setenv("OTEL_SERVICE_NAME", "shop")
    settings = EngineSettings(catalog_folder=tmp_path, artifacts_folder=tmp_path, capture_folder=tmp_path)
    assert (settings.otlp_endpoint, settings.service_name) == ("http://collector:4318", "shop")
    monkeypatch.setenv("BURNISH_ENGINE_OTLP_ENDPOINT", "http://other:4318")
    settings = EngineSettings(catalog_folder=tmp_path, artifacts_folder=tmp_path, capture_folder=tmp_path)
    assert settings.otlp_endpoint == "http://other:4318"
