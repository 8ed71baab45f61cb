"""Requests that two servers might read differently are refused, and nothing on the connection is read after them."""

import re

import pytest

from tests.unit.serving.doors.http_echo import CLOSE, LIMITS, Echo, answers, serving
from tests.unit.serving.engine.doubles import run

POST = b"POST / HTTP/1.1\r\nhost: a\r\n"
CHUNKS = b"\r\n3\r\nabc\r\n0\r\n\r\n"
STATUS = re.compile(rb"HTTP/1.1 (\d+)")
SECOND = b"GET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n"

AMBIGUOUS = {
    "length then chunks": POST + b"content-length: 4\r\ntransfer-encoding: chunked\r\n" + CHUNKS,
    "chunks then length": POST + b"transfer-encoding: chunked\r\ncontent-length: 4\r\n" + CHUNKS,
    "length twice, the same": POST + b"content-length: 3\r\ncontent-length: 3\r\n\r\nabc",
    "length as a list": POST + b"content-length: 3, 3\r\n\r\nabc",
    "length with a sign": POST + b"content-length: +3\r\n\r\nabc",
    "length of many digits": POST + b"content-length: " + b"9" * 1500 + b"\r\n\r\nabc",
    "space before the colon": POST + b"content-length : 3\r\n\r\nabc",
    "length in the trailers": POST + b"transfer-encoding: chunked\r\n\r\n0\r\ncontent-length: 5\r\n\r\n",
    "bare line feeds": b"POST / HTTP/1.1\ncontent-length: 3\n\nabc",
    "a bare line feed in the head": POST + b"a: b\ncontent-length: 3\r\n\r\nabc",
    "a bare line feed at its end": b"GET / HTTP/1.1\r\nhost: a\r\na: b\r\n\n",
    "a bare carriage return": b"GET / HTTP/1.1\r\nhost: a\r\na: b\rc: d\r\n\r\n",
    "a bare line feed in chunks": POST + b"transfer-encoding: chunked\r\n\r\n3\nabc\r\n0\r\n\r\n",
    "a folded header": b"GET / HTTP/1.1\r\nhost: a\r\na: b\r\n c\r\n\r\n",
    "folded chunks": POST + b"transfer-encoding:\r\n chunked\r\n" + CHUNKS,
    "an unknown transfer coding": POST + b"transfer-encoding: xchunked\r\n" + CHUNKS,
    "chunks not last": POST + b"transfer-encoding: chunked, identity\r\n" + CHUNKS,
    "chunks twice": POST + b"transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n" + CHUNKS,
    "chunks of gzip": POST + b"transfer-encoding: gzip, chunked\r\n" + CHUNKS,
    "chunks in HTTP/1.0": b"POST / HTTP/1.0\r\ntransfer-encoding: chunked\r\n" + CHUNKS,
    "a chunk's size beyond 64 bits": POST
    + b"transfer-encoding: chunked\r\n\r\n1"
    + b"0" * 16
    + b"\r\nabc\r\n0\r\n\r\n",
    "a chunk longer than said": POST + b"transfer-encoding: chunked\r\n\r\n3\r\nabcX\r\n0\r\n\r\n",
    "a NUL in a header": b"GET / HTTP/1.1\r\nhost: a\r\na: b\0c\r\n\r\n",
    "no colon": b"GET / HTTP/1.1\r\nhost: a\r\nhost\r\n\r\n",
    "a space before the first header": b"GET / HTTP/1.1\r\nhost: a\r\n a: b\r\n\r\n",
    "no host": b"GET / HTTP/1.1\r\na: b\r\n\r\n",
    "two hosts": b"GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n",
    "HTTP/0.9": b"GET /\r\n\r\n",
    "HTTP/2.0": b"GET / HTTP/2.0\r\n\r\n",
    "too many headers": b"GET / HTTP/1.1\r\nhost: a\r\n" + b"a: b\r\n" * 101 + b"\r\n",
}


@pytest.mark.parametrize("message", AMBIGUOUS.values(), ids=AMBIGUOUS)
def test_what_another_server_might_read_differently_is_refused_and_nothing_read_after_it(message: bytes) -> None:
    async def work() -> None:
        echo = Echo()
        async with serving(echo, LIMITS) as (_, port):
            found = await answers(port, message + SECOND)
            assert [int(status) for status in STATUS.findall(found)] in ([400], [413], [431], [501], [505])
            assert found.count(b"connection: close\r\n") == 1
            assert echo.seen == []

    run(work())


@pytest.mark.parametrize("path", [b"/", b"/later"])
def test_what_comes_after_the_last_request_is_not_answered(path: bytes) -> None:
    async def work() -> None:
        echo = Echo()
        echo.go.set()
        async with serving(echo) as (_, port):
            last = b"GET " + path + b" HTTP/1.1\r\nhost: a\r\n" + CLOSE + b"\r\n"
            found = await answers(port, last + SECOND)
            assert STATUS.findall(found) == [b"200"]
            assert [request.path.encode() for request in echo.seen] == [path]

    run(work())


@pytest.mark.parametrize(
    "behind", [b"0\r\n" + b"a: b\r\n" * 1000, b"1;" + b"x" * 5000], ids=["trailers", "a chunk's line"]
)
def test_what_stands_around_a_body_is_bounded_as_headers_are(behind: bytes) -> None:
    async def work() -> None:
        echo = Echo()
        async with serving(echo, LIMITS) as (_, port):
            pieces = [behind[start : start + 500] for start in range(0, len(behind), 500)]
            found = await answers(port, POST + b"transfer-encoding: chunked\r\n\r\n3\r\nabc\r\n", *pieces, pause=0.005)
            assert STATUS.findall(found) == [b"431"]
            assert echo.seen == []

    run(work())


def test_trailers_are_no_headers() -> None:
    async def work() -> None:
        echo = Echo()
        async with serving(echo) as (_, port):
            head = POST + CLOSE + b"transfer-encoding: chunked\r\n\r\n"
            assert (await answers(port, head + b"3\r\nabc\r\n0\r\nx-burnish-unit: u\r\n\r\n")).endswith(b"POST / abc")
            assert [name for name, _ in echo.seen[0].headers] == [b"host", b"connection", b"transfer-encoding"]

    run(work())
