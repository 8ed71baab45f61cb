"""The REST door over a real socket: it drains, and it notices clients that hang up."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import orjson
import pytest

from serving.doors.rest import rest_server
from serving.doors.server import Server
from serving.engine.catalog import write_entry
from serving.engine.worker import Worker
from serving.settings import EngineSettings
from tests.unit.serving.engine.doubles import WAIT_SECONDS, FakeSession, FakeWorld, entry, run, served, until

INFER = "/v2/models/m/infer"
ONE = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [1, 2]}]}
# More rows than run on the loop itself, so that a held-up session leaves the loop free.
MANY = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [500, 2], "data": [1] * 1000}]}


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> FakeWorld:
    return FakeWorld().install(monkeypatch)


@pytest.fixture
def session(world: FakeWorld) -> FakeSession:
    return world.add(served(1), FakeSession())


@pytest.fixture
def worker(world: FakeWorld, tmp_path: Path) -> Worker:
    write_entry(tmp_path, entry(1, {1: 100}, [served(1)]))
    settings = EngineSettings(catalog_folder=tmp_path, artifacts_folder=tmp_path, capture_folder=tmp_path)
    return Worker(settings, world, 0)


@asynccontextmanager
async def open_server(worker: Worker) -> AsyncIterator[tuple[Server, int, httpx.AsyncClient]]:
    await worker.start()
    server = rest_server(worker, 1_000_000, drain_seconds=10)
    port = await server.open("127.0.0.1", 0)
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=WAIT_SECONDS) as client:
        assert (await client.post(INFER, json=ONE)).status_code == 200
        yield server, port, client
    await worker.stop()


async def hold_up(session: FakeSession, client: httpx.AsyncClient) -> asyncio.Task[httpx.Response]:
    """Start a request whose run does not end until the session may go on."""
    session.running.clear()
    session.may_run.clear()
    task = asyncio.create_task(client.post(INFER, json=MANY))
    await until(session.running.is_set)
    return task


def test_a_closing_server_finishes_what_is_in_flight(session: FakeSession, worker: Worker) -> None:
    async def work() -> None:
        async with open_server(worker) as (server, _, client):
            in_flight = await hold_up(session, client)
            closing = asyncio.create_task(server.close())
            await asyncio.sleep(0.3)
            assert not closing.done()
            session.may_run.set()
            assert (await in_flight).status_code == 200
            await closing
            with pytest.raises(httpx.ConnectError):
                await client.get("/v2/health/live")

    run(work())


def test_a_client_that_hangs_up_leaves_the_queue(session: FakeSession, worker: Worker) -> None:
    async def work() -> None:
        async with open_server(worker) as (server, port, client):
            in_flight = await hold_up(session, client)
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            document = orjson.dumps(ONE)
            head = f"POST {INFER} HTTP/1.1\r\nhost: door\r\ncontent-length: {len(document)}\r\n\r\n"
            writer.write(head.encode() + document)
            await writer.drain()

            batcher = worker.live.route("m", None, "unit").batcher
            assert batcher is not None
            await until(lambda: batcher.waiting == 1)
            writer.close()
            await until(lambda: batcher.waiting == 0)
            session.may_run.set()
            assert (await in_flight).status_code == 200
            assert session.shapes[-1] == (500, 2), "the request of the lost client was not run"
            await server.close()

    run(work())
