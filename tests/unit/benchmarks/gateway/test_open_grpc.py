"""The generator of gRPC calls against a server of the library's own."""

import asyncio
from pathlib import Path
from typing import Any

import grpc

from benchmarks.gateway.open_loop import OpenJob, OpenRound, hold
from benchmarks.serving.figures import Target, Wire

RATE = 1000.0
SECONDS = 0.3
METHOD = "/s.S/M"


async def answer(request: bytes, context: Any) -> bytes:  # noqa: ANN401 - the library ships no types
    metadata = dict(context.invocation_metadata())
    if metadata["x-api-key"] != "k":
        await context.abort(grpc.StatusCode.UNAUTHENTICATED, "no")
    return request * 3


async def held(folder: Path) -> dict[str, OpenRound]:
    server = grpc.aio.server()
    handler = grpc.method_handlers_generic_handler("s.S", {"M": grpc.unary_unary_rpc_method_handler(answer)})
    server.add_generic_rpc_handlers((handler,))
    ports = (server.add_insecure_port("127.0.0.1:0"),)
    await server.start()
    (folder / "body").write_bytes(b"x" * 1000)  # more in all than the first windows hold

    def target(name: str, key: str) -> Target:
        body, headers = folder / "body", {"x-api-key": key}
        return Target(name=name, server="s", wire=Wire.GRPC, ports=ports, path=METHOD, headers=headers, body=body)

    targets = (target("taken", "k"), target("refused", "z"))
    found = await hold(
        OpenJob(targets=targets, rates={"taken": RATE, "refused": RATE / 2}, seconds=SECONDS, processes={})
    )
    await server.stop(1)
    return found


def test_every_call_is_made_and_counts_by_its_status(tmp_path: Path) -> None:
    found = asyncio.run(held(tmp_path))
    assert (found["taken"].sent, found["taken"].statuses) == (300, {"200": 300})
    assert (found["refused"].sent, found["refused"].statuses) == (150, {"16": 150})
    assert 0 < found["taken"].p50_ms <= found["taken"].p99_ms
