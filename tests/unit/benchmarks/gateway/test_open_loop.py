"""The generator of constant rates against a server whose answers are known."""

import asyncio
import os
from collections import Counter
from pathlib import Path

from benchmarks.gateway.open_loop import OpenJob, OpenRound, hold
from benchmarks.serving.figures import Target

RATE = 400.0
SECONDS = 0.1


async def held(folder: Path, seen: Counter[bytes]) -> dict[str, OpenRound]:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while head := await reader.read(4096):
            path = head.split(b" ", 2)[1]
            seen[path] += 1
            status = b"429 No" if path == b"/refused" else b"200 OK"
            writer.write(b"HTTP/1.1 " + status + b"\r\ncontent-length: 2\r\n\r\n{}")
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    (folder / "body").write_bytes(b"{}")
    ports = (server.sockets[0].getsockname()[1],)
    targets = tuple(
        Target(name=name, server="s", ports=ports, path=f"/{name}", body=folder / "body")
        for name in ("taken", "refused")
    )
    rates = {"taken": RATE, "refused": RATE / 2}
    async with server:
        return await hold(OpenJob(targets=targets, rates=rates, seconds=SECONDS, processes={"us": (os.getpid(),)}))


def test_each_target_gets_its_rate_and_every_answer_counts_but_those_before_the_round(tmp_path: Path) -> None:
    seen: Counter[bytes] = Counter()
    found = asyncio.run(held(tmp_path, seen))
    assert (found["taken"].sent, found["taken"].statuses) == (40, {"200": 40})
    assert (found["refused"].sent, found["refused"].statuses) == (20, {"429": 20})
    assert seen[b"/taken"] > 40
    assert 0 < found["taken"].p50_ms <= found["taken"].p99_ms
    assert set(found["taken"].cpu_us) == {"load", "us"}
