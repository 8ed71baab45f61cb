"""The REST door: the protocol's paths, and every bad request a 4xx that names what is wrong."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import orjson
import pytest

from serving.doors.rest import rest_server
from serving.doors.rest_state import EXTENSIONS
from serving.engine.catalog import write_entry
from serving.engine.worker import Worker
from tests.unit.serving.doors.rest_client import INFER, MAX_BODY_BYTES, VERSIONS, X, body, open_door
from tests.unit.serving.engine.doubles import FakeWorld, entry, run, until


def test_an_answer_names_what_made_it(worker: Worker) -> None:
    async def work() -> None:
        async with open_door(worker) as client:
            reply = await client.post(INFER, json=body(id="mine"), headers={"x-request-id": "r-1"})
            artifact = VERSIONS[0].artifact.sha256
            assert reply.status_code == 200
            assert reply.headers["x-request-id"] == "r-1"
            assert reply.headers["x-burnish-model"] == "m"
            assert reply.headers["x-burnish-version"] == "1"
            assert reply.headers["x-burnish-artifact"] == artifact
            assert reply.json() == {
                "model_name": "m",
                "model_version": "1",
                "id": "mine",
                "parameters": {"artifact": artifact, "request_id": "r-1"},
                "outputs": [{"name": "y", "datatype": "FP32", "shape": [1, 2], "data": [1, 2]}],
            }
            by_number = (await client.post("/v2/models/m/versions/2/infer", json=body())).json()
            assert (by_number["model_version"], by_number["outputs"][0]["data"]) == ("2", [2, 4])
            assert len(by_number["id"]) == 32

    run(work())


def test_bytes_in_and_out(worker: Worker) -> None:
    async def work() -> None:
        async with open_door(worker) as client:
            tensor = {"name": "x", "datatype": "FP32", "shape": [1, 2], "parameters": {"binary_data_size": 8}}
            head = orjson.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}})
            values = np.array([1, 2], np.float32).tobytes()
            length = {"inference-header-content-length": str(len(head))}
            reply = await client.post(INFER, content=head + values, headers=length)
            assert reply.status_code == 200
            assert reply.headers["content-type"] == "application/octet-stream"
            size = int(reply.headers["inference-header-content-length"])
            assert orjson.loads(reply.content[:size])["outputs"][0]["parameters"] == {"binary_data_size": 8}
            assert reply.content[size:] == values
            for wrong in ("-1", "many", "9" * 30, str(len(head) + 9)):
                headers = {"inference-header-content-length": wrong}
                assert (await client.post(INFER, content=head + values, headers=headers)).status_code == 400

    run(work())


def test_the_repository_lists_counts_loads_and_unloads(world: FakeWorld, worker: Worker) -> None:
    session = world.sessions[VERSIONS[0].artifact.sha256]

    async def work() -> None:
        async with open_door(worker) as client:
            index = (await client.post("/v2/repository/index")).json()
            assert {"name": "m", "version": "1", "state": "READY", "reason": ""} in index
            assert len((await client.post("/v2/repository/index", json={"ready": True})).json()) == 4
            assert (await client.post("/v2/repository/index", json={"ready": 1})).status_code == 400
            assert (await client.post("/v2/repository/models/m/load")).status_code == 200
            assert len(world.loads) == 1
            await client.post(INFER, json=body())
            found = (await client.get("/v2/models/m/versions/1/stats")).json()["model_stats"]
            assert [(one["version"], one["inference_count"], one["execution_count"]) for one in found] == [("1", 1, 1)]
            assert found[0]["inference_stats"]["success"]["count"] == 1
            assert (await client.post("/v2/repository/models/m/unload")).status_code == 200
            await until(lambda: session.closed)
            for path in ("nobody/load", "nobody/unload", "m/forget"):
                assert (await client.post(f"/v2/repository/models/{path}")).status_code == 404

    run(work())


def test_an_answer_from_the_cache_says_so(worker: Worker, tmp_path: Path) -> None:
    caching = entry(1, {1: 100}, VERSIONS, cache_mib=1)
    write_entry(tmp_path / "catalog", caching)

    async def work() -> None:
        async with open_door(worker) as client:
            first, second = [(await client.post(INFER, json=body(id="mine"))).json() for _ in range(2)]
            assert second["parameters"].pop("cache_hit") is True
            assert "cache_hit" not in first["parameters"]
            assert first["outputs"] == second["outputs"]
            found = (await client.get("/v2/models/m/versions/1/stats")).json()["model_stats"][0]
            assert [found["inference_stats"][name]["count"] for name in ("cache_hit", "cache_miss")] == [1, 1]

    run(work())


def test_a_unit_stays_with_its_version(worker: Worker, tmp_path: Path) -> None:
    write_entry(tmp_path / "catalog", entry(2, {1: 50, 2: 50}, VERSIONS))

    async def version(client: httpx.AsyncClient, unit: str) -> str:
        headers = {"x-burnish-unit": unit}
        return str((await client.post(INFER, json=body(), headers=headers)).json()["model_version"])

    async def work() -> None:
        async with open_door(worker) as client:
            units = [f"user-{number}" for number in range(30)]
            first = [await version(client, unit) for unit in units]
            assert [await version(client, unit) for unit in units] == first
            assert set(first) == {"1", "2"}

    run(work())


@pytest.mark.parametrize(
    ("path", "status", "expected"),
    [
        ("/v2", 200, {"name": "burnish", "extensions": list(EXTENSIONS)}),
        ("/v2/health/live", 200, {"live": True}),
        ("/v2/health/ready", 200, {"ready": True}),
        ("/v2/models/m", 200, {"name": "m", "versions": ["1", "2"]}),
        ("/v2/models/m/versions/2", 200, {"parameters": {"version": "2", "artifact": VERSIONS[1].artifact.sha256}}),
        ("/v2/models/m/ready", 200, {"name": "m", "ready": True}),
        ("/v2/models/m/versions/2/ready", 200, {"name": "m", "ready": True}),
        ("/v2/models/quiet", 200, {"name": "quiet"}),
        ("/v2/models/quiet/ready", 404, {"error": "quiet has no live version; there are [1, 2]"}),
        ("/v2/models/nobody", 404, {"error": "there is no model nobody"}),
        ("/v2/models/m/versions/9", 404, {"error": "m has no version 9; there are [1, 2]"}),
        ("/v2/models/m/versions/x/ready", 400, {}),
        ("/v2/models/m/versions/9/unheard", 404, {}),
        ("/v2/models/m/unheard", 404, {}),
        ("/v2/models/m/stats", 200, {}),
        ("/v2/models/m/versions/2/stats", 200, {}),
        ("/v2/models/stats", 200, {}),
        ("/v2/models/nobody/stats", 404, {}),
        ("/v2/repository/index", 405, {}),
        ("/v2/models", 404, {"error": "there is nothing at /v2/models"}),
        ("/", 404, {"error": "there is nothing at /"}),
        (INFER, 405, {"error": "/v2/models/m/infer takes POST only"}),
    ],
)
def test_paths(worker: Worker, path: str, status: int, expected: dict[str, Any]) -> None:
    async def work() -> None:
        async with open_door(worker) as client:
            reply = await client.get(path)
            assert reply.status_code == status
            assert expected.items() <= reply.json().items()

    run(work())


@pytest.mark.parametrize(
    ("path", "document", "headers", "status", "message"),
    [
        (INFER, b"{", {}, 400, "the body is not JSON"),
        (INFER, orjson.dumps({"inputs": [{**X, "shape": [1, 9]}]}), {}, 400, "inputs[0].shape[1]: expected 2, got 9"),
        (INFER, b"x" * (MAX_BODY_BYTES + 1), {}, 413, "the body is larger than 10000 bytes"),
        (INFER, orjson.dumps(body()), {"x-request-id": "two words"}, 400, "the header x-request-id"),
        (INFER, orjson.dumps(body()), {"x-burnish-unit": "x" * 129}, 400, "the header x-burnish-unit"),
        ("/v2/models/quiet/infer", orjson.dumps(body()), {}, 404, "no version of quiet is live"),
        ("/v2/models/nobody/infer", orjson.dumps(body()), {}, 404, "there is no model nobody"),
        ("/v2/models/m/versions/3/infer", orjson.dumps(body()), {}, 404, "m has no version 3"),
        ("/v2/models/m/versions/-1/infer", orjson.dumps(body()), {}, 400, "the version: expected"),
        ("/v2/health/live", b"", {}, 405, "takes GET only"),
    ],
)
def test_a_bad_request_is_refused_by_name(
    worker: Worker, path: str, document: bytes, headers: dict[str, str], status: int, message: str
) -> None:
    async def work() -> None:
        async with open_door(worker) as client:
            reply = await client.post(path, content=document, headers=headers)
            assert reply.status_code == status
            assert message in reply.json()["error"]
            assert status == 413 or len(reply.headers["x-request-id"]) == 32

    run(work())


def test_a_refusal_of_other_headers_keeps_the_request_id(worker: Worker) -> None:
    async def work() -> None:
        async with open_door(worker) as client:
            headers = {"x-request-id": "r-1", "inference-header-content-length": "many"}
            reply = await client.post(INFER, json=body(), headers=headers)
            assert (reply.status_code, reply.headers["x-request-id"]) == (400, "r-1")

    run(work())


def test_an_error_tells_the_beginning_of_a_long_name(worker: Worker) -> None:
    async def work() -> None:
        async with open_door(worker) as client:
            for path in ("/" + "x" * 20_000, f"/v2/models/{'x' * 20_000}/infer"):
                reply = await client.post(path, json=body())
                assert (reply.status_code, len(reply.content) < 300) == (404, True)

    run(work())


def test_a_large_body_without_a_length_is_refused(worker: Worker) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(20):
            yield b"x" * 100_000

    async def work() -> None:
        async with open_door(worker) as client:
            assert (await client.post(INFER, content=pieces())).status_code == 413

    run(work())


def test_a_failing_session_is_a_500_a_full_queue_and_a_failed_load_are_503(world: FakeWorld, worker: Worker) -> None:
    first, second = (world.sessions[version.artifact.sha256] for version in VERSIONS)

    async def work() -> None:
        async with open_door(worker) as client:
            await client.post(INFER, json=body())
            first.broken = True
            reply = await client.post(INFER, json=body())
            assert reply.status_code == 500
            assert reply.json()["error"] == "m version 1 failed on this batch: ZeroDivisionError: broken on purpose"
            first.value_errors = (ZeroDivisionError,)  # type: ignore[misc]
            reply = await client.post(INFER, json=body())
            assert (reply.status_code, reply.json()["error"].partition(":")[0]) == (400, "inputs")
            first.broken = False
            first.may_run.clear()
            first.running.clear()
            many = {"inputs": [{**X, "shape": [500, 2], "data": [1] * 1000}]}
            held = [asyncio.create_task(client.post(INFER, json=many))]
            await until(first.running.is_set)
            held.append(asyncio.create_task(client.post(INFER, json=body())))
            batcher = worker.engine.route("m", None, "").batcher
            assert batcher is not None
            await until(lambda: batcher.waiting == 1)
            full = await client.post(INFER, json=body())
            assert (full.status_code, full.headers["retry-after"]) == (429, "1")
            held.pop().cancel()
            await until(lambda: batcher.waiting == 0)
            late = await client.post(INFER, json=body(parameters={"timeout": 5000, "priority": 1}))
            assert late.status_code == 504
            assert "did not answer within the time of the request" in late.json()["error"]
            wrong = await client.post(INFER, json=body(parameters={"timeout": "soon"}))
            assert (wrong.status_code, wrong.json()["error"][:19]) == (400, "parameters.timeout:")
            first.may_run.set()
            assert [(await task).status_code for task in held] == [200]
            second.broken = True
            reply = await client.post("/v2/models/m/versions/2/infer", json=body())
            assert (reply.status_code, reply.headers["retry-after"]) == (503, "1")
            assert "m version 2 cannot be loaded" in reply.json()["error"]
            assert (await client.get("/v2/models/m/versions/2/ready")).status_code == 503

    run(work())


def test_a_worker_is_ready_only_after_its_first_look_at_the_catalog(worker: Worker) -> None:
    async def work() -> None:
        server = rest_server(worker, MAX_BODY_BYTES, drain_seconds=10)
        port = await server.open("127.0.0.1", 0)
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
            assert (await client.get("/v2/health/ready")).status_code == 503
            await worker.start()
            assert (await client.get("/v2/health/ready")).status_code == 200
            await worker.stop()
            assert (await client.get("/v2/health/ready")).status_code == 503
        await server.close()

    run(work())


def test_a_draining_worker_is_alive_but_not_ready_and_still_answers(worker: Worker) -> None:
    async def work() -> None:
        async with open_door(worker) as client:
            worker.draining = True
            assert (await client.get("/v2/health/ready")).status_code == 503
            assert (await client.get("/v2/health/live")).status_code == 200
            assert (await client.post(INFER, json=body())).status_code == 200

    run(work())
