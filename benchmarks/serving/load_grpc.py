"""gRPC calls in a closed loop; messages are bytes on this side, so that the client does not parse what it counts."""

import asyncio
import time

import grpc

from benchmarks.serving.figures import Target
from benchmarks.serving.load_http import HOST
from benchmarks.serving.tally import Tally


async def open_grpc(target: Target, connections: int, tally: Tally) -> list[asyncio.Task[None]]:
    """Open channels with a connection each, on which calls follow one another until the tally is over."""
    body = target.body.read_bytes()
    ports = [target.ports[number % len(target.ports)] for number in range(connections)]
    return [asyncio.create_task(_ask(f"{HOST}:{port}", target.path, body, tally)) for port in ports]


async def _ask(address: str, method: str, body: bytes, tally: Tally) -> None:
    options = (("grpc.use_local_subchannel_pool", 1),)
    async with grpc.aio.insecure_channel(address, options=options) as channel:
        call = channel.unary_unary(method)
        while not tally.over:
            asked_ns = time.perf_counter_ns()
            try:
                await call(body)
            except grpc.aio.AioRpcError as error:
                tally.failed(f"{error.code().name}: {error.details()}")
                if error.code() == grpc.StatusCode.UNAVAILABLE:
                    return
            else:
                tally.answered(time.perf_counter_ns() - asked_ns)
