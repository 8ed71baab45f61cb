"""A client of a REST door over a real socket."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx

from serving.doors.rest import rest_server
from serving.engine.worker import Worker
from tests.unit.serving.engine.doubles import WAIT_SECONDS, served

VERSIONS = [served(1), served(2)]
INFER = "/v2/models/m/infer"
X = {"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [1, 2]}
MAX_BODY_BYTES = 10_000


@asynccontextmanager
async def open_door(worker: Worker) -> AsyncIterator[httpx.AsyncClient]:
    await worker.start()
    server = rest_server(worker, MAX_BODY_BYTES, drain_seconds=10)
    port = await server.open("127.0.0.1", 0)
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=WAIT_SECONDS) as client:
        yield client
    await server.close()
    await worker.stop()


def body(**changes: object) -> dict[str, object]:
    return {"inputs": [X], **changes}
