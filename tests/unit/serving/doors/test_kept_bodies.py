"""What bodies hold that are being read is bounded over all connections, and shared between tenants."""

import asyncio

from serving.doors.http_rules import HttpLimits
from serving.engine.shared_bound import SharedBound
from tests.unit.serving.doors.http_echo import Echo, connect, serving
from tests.unit.serving.engine.doubles import run, until

LIMITS = HttpLimits(body_bytes=100_000)


def head(tenant: str, size: int, path: str = "/") -> bytes:
    return b"POST %b HTTP/1.1\r\nhost: a\r\nx-burnish-tenant: %b\r\ncontent-length: %d\r\n\r\n" % (
        path.encode(),
        tenant.encode(),
        size,
    )


async def status(reader: asyncio.StreamReader) -> int:
    return int((await asyncio.wait_for(reader.readline(), 30)).split()[1])


def test_who_floods_with_bodies_that_do_not_end_is_refused_and_others_are_read() -> None:
    async def work() -> None:
        bodies = SharedBound(100_000)
        async with serving(Echo(), LIMITS, bodies) as (_, port):
            quiet = await connect(port)
            quiet[1].write(head("quiet", 2000) + b"x" * 1000)
            await until(lambda: bodies.total == 1000)
            flood = [await connect(port) for _ in range(10)]
            for _, writer in flood:
                writer.write(head("flood", 20_000) + b"x" * 19_000)
            done = [asyncio.create_task(status(reader)) for reader, _ in flood]
            await until(lambda: sum(task.done() for task in done) == 6)
            assert {task.result() for task in done if task.done()} == {429}
            assert bodies.total == 1000 + 4 * 19_000
            quiet[1].write(b"x" * 1000)
            assert await status(quiet[0]) == 200
            for (_, writer), task in zip(flood, done, strict=True):
                if not task.done():
                    writer.write(b"x" * 1000)
            assert sorted(await asyncio.gather(*done)) == [200] * 4 + [429] * 6
            assert bodies.total == 0
            for _, writer in (quiet, *flood):
                writer.close()

    run(work())


def test_one_tenant_alone_is_told_to_try_later_and_who_hangs_up_gives_back() -> None:
    async def work() -> None:
        bodies = SharedBound(10_000)
        async with serving(Echo(), LIMITS, bodies) as (_, port):
            first, second = await connect(port), await connect(port)
            first[1].write(head("a", 90_000) + b"x" * 7000)
            await until(lambda: bodies.total == 7000)
            second[1].write(head("a", 90_000) + b"x" * 7000)
            assert await status(second[0]) == 503
            first[1].close()
            await until(lambda: bodies.total == 0)
            second[1].close()

    run(work())


def test_what_is_read_ahead_counts_until_it_is_answered() -> None:
    async def work() -> None:
        bodies, echo = SharedBound(100_000), Echo()
        async with serving(echo, LIMITS, bodies) as (_, port):
            reader, writer = await connect(port)
            writer.write(head("a", 3, "/later") + b"abc" + head("a", 5000) + b"x" * 5000 + head("a", 7) + b"y")
            await until(lambda: bodies.total == 5001)
            echo.go.set()
            assert await status(reader) == 200
            await until(lambda: bodies.total == 1)
            writer.write(b"z" * 6)
            await until(lambda: bodies.total == 0)
            assert [len(request.body) for request in echo.seen] == [3, 5000, 7]
            writer.close()

    run(work())
