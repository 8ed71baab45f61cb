"""HTTP/1.1 over a real socket: every way to write a request, right or wrong, and what comes back."""

import asyncio
from contextlib import suppress

import pytest

from serving.doors.http import HttpConnection
from serving.doors.http_rules import HttpLimits
from tests.unit.serving.doors.http_echo import CLOSE, HASTY, LIMITS, Echo, answers, connect, serving
from tests.unit.serving.engine.doubles import run, until


def test_requests_of_one_connection_are_answered_in_order() -> None:
    async def work() -> None:
        echo = Echo()
        async with serving(echo) as (_, port):
            slow = b"GET /later HTTP/1.1\r\nhost: a\r\n\r\n"
            rest = (
                b"GET /1?a=b HTTP/1.1\r\nhost: a\r\n\r\nPOST /2%2f3 HTTP/1.1\r\nhost: a\r\n"
                + CLOSE
                + b"content-length: 2\r\n\r\nhi"
            )
            asked = asyncio.create_task(answers(port, slow + rest))
            await until(lambda: bool(echo.seen))
            assert [request.path for request in echo.seen] == ["/later"]
            echo.go.set()
            found = await asked
            assert [line for line in found.splitlines() if line.startswith((b"GET", b"POST"))] == [
                b"GET /later HTTP/1.1 200 OK",
                b"GET /1 HTTP/1.1 200 OK",
                b"POST /2/3 hi",
            ]
            assert found.count(b"x-extra: 1\r\n") == 3
            assert found.count(b"connection: close\r\n") == 1

    run(work())


@pytest.mark.parametrize("size", [1, 3, 7])
def test_a_request_may_come_in_any_pieces(size: int) -> None:
    message = (
        b"POST /x HTTP/1.1\r\nhost: a\r\nA-Name: value\r\n"
        + CLOSE
        + b"transfer-encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
    )
    pieces = [message[start : start + size] for start in range(0, len(message), size)]

    async def work() -> None:
        echo = Echo()
        async with serving(echo) as (_, port):
            assert (await answers(port, *pieces, pause=0)).endswith(b"POST /x abcde")
            assert (b"a-name", b"value") in echo.seen[0].headers

    run(work())


@pytest.mark.parametrize(
    ("message", "status"),
    [
        (b"nonsense\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nhost: a\r\ncontent-length: many\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nhost: a\r\ncontent-length: -1\r\n\r\n", b"400"),
        (b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", b"400"),
        (b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\ncontent-length: 4\r\n\r\nabcd", b"400"),
        (b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nhost: a\r\na b: c\r\n\r\n", b"400"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"400"),
        (b"GET / HTTP/2.0\r\n\r\n", b"505"),
        (b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1001\r\n\r\n", b"413"),
        (b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 99999999999999\r\n\r\n", b"413"),
        (b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n3e9\r\n" + b"x" * 1001, b"413"),
        (b"GET / HTTP/1.1\r\nhost: a\r\na: " + b"x" * 2001, b"431"),
        (b"GET / HTTP/1.1\r\nhost: a\r\na: " + b"x" * 2001 + b"\r\n\r\n", b"431"),
        (b"GET /" + b"x" * 2001, b"431"),
        (b"GET /" + b"x" * 2001 + b" HTTP/1.1\r\nhost: a\r\n\r\n", b"431"),
        (b"CONNECT a:80 HTTP/1.1\r\nhost: a\r\n\r\n", b"400"),
        (b"CONNECT / HTTP/1.1\r\nhost: a\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nhost: a\r\n", b"408"),
        (b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\nab", b"408"),
    ],
)
def test_what_cannot_be_read_is_refused_and_the_client_hung_up_on(message: bytes, status: bytes) -> None:
    async def work() -> None:
        echo = Echo()
        async with serving(echo, HASTY if status == b"408" else LIMITS) as (_, port):
            found = await answers(port, message)
            assert found.startswith(b"HTTP/1.1 " + status)
            assert b"connection: close\r\n" in found
            assert echo.seen == []
            assert (await answers(port, b"GET / HTTP/1.1\r\nhost: a\r\n" + CLOSE + b"\r\n")).startswith(b"HTTP/1.1 200")

    run(work())


@pytest.mark.parametrize(
    "body", [b"content-length: 3\r\n\r\nabc", b"transfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"]
)
@pytest.mark.parametrize("pieces", [1, 9])
def test_a_wish_for_another_protocol_is_ignored_and_ends_the_connection(body: bytes, pieces: int) -> None:
    async def work() -> None:
        echo = Echo()
        async with serving(echo) as (_, port):
            wish = b"POST /x HTTP/1.1\r\nhost: a\r\nconnection: Upgrade, HTTP2-Settings\r\nupgrade: h2c\r\n"
            sent = wish + body + wish * 2000
            size = (len(wish) + len(body)) // pieces
            found = await answers(
                port,
                *(sent[place : place + size] for place in range(0, size * (pieces - 1), size)),
                sent[size * (pieces - 1) :],
            )
            assert found.count(b"HTTP/1.1 ") == found.count(b"connection: close\r\n") == 1
            assert found.startswith(b"HTTP/1.1 200 ") and found.endswith(b"POST /x abc")
            assert [one.body for one in echo.seen] == [b"abc"]

    run(work())


def test_a_target_may_be_a_whole_url() -> None:
    async def work() -> None:
        echo = Echo()
        async with serving(echo) as (_, port):
            await answers(port, b"GET http://a:1/x/y?z HTTP/1.1\r\nhost: a\r\n" + CLOSE + b"\r\n")
            assert echo.seen[0].path == "/x/y"

    run(work())


def test_an_answer_to_head_has_no_body_that_would_be_read_as_the_next_answer() -> None:
    async def work() -> None:
        async with serving(Echo()) as (_, port):
            found = await answers(
                port, b"HEAD /x HTTP/1.1\r\nhost: a\r\n\r\nGET /y HTTP/1.1\r\nhost: a\r\n" + CLOSE + b"\r\n"
            )
            first, _, second = found.partition(b"\r\n\r\n")
            assert first.startswith(b"HTTP/1.1 405 ") and b"content-length: 0" in first
            assert second.startswith(b"HTTP/1.1 200 ") and second.endswith(b"GET /y ")

    run(work())


def test_what_came_before_a_broken_request_is_answered_first() -> None:
    async def work() -> None:
        echo = Echo()
        async with serving(echo) as (_, port):
            asked = asyncio.create_task(answers(port, b"GET /later HTTP/1.1\r\nhost: a\r\n\r\nnonsense\r\n\r\n"))
            await until(lambda: bool(echo.seen))
            echo.go.set()
            found = await asked
            assert found.index(b"HTTP/1.1 200") < found.index(b"GET /later") < found.index(b"HTTP/1.1 400")

    run(work())


def test_a_client_that_asks_whether_to_go_on_is_told() -> None:
    async def work() -> None:
        async with serving(Echo()) as (_, port):
            reader, writer = await connect(port)
            writer.write(b"POST /x HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 2\r\n\r\n")
            assert await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 30) == b"HTTP/1.1 100 Continue\r\n\r\n"
            writer.write(b"hi")
            assert (await asyncio.wait_for(reader.readuntil(b"hi"), 30)).startswith(b"HTTP/1.1 200 OK")
            writer.close()

    run(work())


def test_an_idle_client_is_hung_up_on_and_one_that_waits_for_an_answer_is_not() -> None:
    async def work() -> None:
        echo = Echo()
        async with serving(echo, HASTY) as (_, port):
            waiting = asyncio.create_task(answers(port, b"GET /later HTTP/1.1\r\nhost: a\r\n\r\n"))
            await until(lambda: bool(echo.seen))
            assert await answers(port, b"") == b""
            assert not waiting.done()
            echo.go.set()
            assert b"GET /later" in await waiting

    run(work())


def test_a_client_that_hangs_up_ends_the_work_for_it() -> None:
    async def work() -> None:
        echo = Echo()
        async with serving(echo) as (_, port):
            _, writer = await connect(port)
            writer.write(b"GET /later HTTP/1.1\r\nhost: a\r\n\r\n")
            await until(lambda: bool(echo.seen))
            writer.close()
            await until(lambda: echo.cancelled == 1)

    run(work())


def test_a_client_is_hung_up_on_where_its_answer_fails_later_as_nobody_foresaw() -> None:
    async def work() -> None:
        told: list[BaseException | None] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context.get("exception")))
        async with serving(Echo()) as (_, port):
            with suppress(ConnectionResetError):
                assert await answers(port, b"GET /defect HTTP/1.1\r\nhost: a\r\n\r\n") == b""
        (error,) = told
        assert isinstance(error, LookupError)

    run(work())


def test_a_client_that_does_not_read_its_answers_is_not_read_on() -> None:
    async def work() -> None:
        echo = Echo()
        async with serving(echo) as (_, port):
            reader, writer = await connect(port)
            writer.write(b"GET /large HTTP/1.1\r\nhost: a\r\n\r\n" * 50)
            await asyncio.sleep(0.5)
            assert len(echo.seen) < 25
            for _ in range(50):
                await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 30)
                assert len(await asyncio.wait_for(reader.readexactly(2_000_000), 30)) == 2_000_000
            writer.close()

    run(work())


def test_a_closing_server_answers_what_it_read_and_takes_no_more() -> None:
    async def work() -> None:
        echo = Echo()
        async with serving(echo) as (server, port):
            idle, idle_writer = await connect(port)
            in_flight = asyncio.create_task(
                answers(port, b"GET /later HTTP/1.1\r\nhost: a\r\n\r\nGET /next HTTP/1.1\r\nhost: a\r\n\r\n")
            )
            half, half_writer = await connect(port)
            half_writer.write(b"POST /half HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\n")
            await until(lambda: bool(echo.seen))
            closing = asyncio.create_task(server.close())
            assert await asyncio.wait_for(idle.read(), 30) == b""
            half_writer.write(b"hi")
            assert b"connection: close" in await asyncio.wait_for(half.read(), 30)
            assert not closing.done()
            echo.go.set()
            found = await in_flight
            assert found.count(b"HTTP/1.1 200 OK") == 2
            await closing
            with pytest.raises(ConnectionRefusedError):
                await connect(port)
            idle_writer.close()
            half_writer.close()

    run(work())


def test_no_more_bodies_are_read_ahead_than_one_request_may_have() -> None:
    limits = HttpLimits(body_bytes=100_000)
    upload = b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 60000\r\n\r\n" + b"x" * 60_000

    async def work() -> None:
        echo = Echo()
        async with serving(echo, limits) as (server, port):
            reader, writer = await connect(port)
            writer.write(b"GET /later HTTP/1.1\r\nhost: a\r\n\r\n" + 14 * upload)
            await until(lambda: bool(echo.seen))
            (connection,) = server._connections
            assert isinstance(connection, HttpConnection)
            await until(lambda: connection._enough_queued())
            await asyncio.sleep(0.1)
            assert len(connection._queued) < 8, "the rest stays with the client"
            echo.go.set()
            await until(lambda: len(echo.seen) == 15)
            writer.close()
            del reader

    run(work())
