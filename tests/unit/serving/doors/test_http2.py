"""HTTP/2 as the gRPC door speaks it: windows in both directions, goodbyes, and clients that cost more than they ask."""

import asyncio

import pytest
from h2.errors import ErrorCodes
from h2.events import DataReceived, StreamReset
from h2.settings import SettingCodes
from hyperframe.frame import ContinuationFrame, Frame, HeadersFrame

from serving.doors import http2_request
from serving.doors.http2_request import Http2Limits
from tests.unit.serving.doors.http2_client import Http2Client, call_headers
from tests.unit.serving.doors.http2_echo import Echo, serving
from tests.unit.serving.engine.doubles import run, until


def body_of(client: Http2Client, number: int) -> bytes:
    return b"".join(event.data for event in client.of(number, DataReceived))


def test_many_requests_of_one_connection_are_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    async def work() -> None:
        async with serving(Echo()) as (_, port):
            client = await Http2Client.connect(port)
            numbers = [client.ask(b"%d" % place) for place in range(50)]
            await client.ended(*numbers)
            assert [body_of(client, number) for number in numbers] == [b"%d" % place for place in range(50)]
            refused = client.ask(b"some", call_headers("/none"))
            await client.ended(refused)
            assert client.status(refused) == {":status": "404"}
            client.close()

    run(work())


def test_a_body_larger_than_the_windows_comes_and_goes_as_they_open() -> None:
    async def work() -> None:
        echo = Echo()
        async with serving(echo) as (_, port):
            client = await Http2Client.connect(port, {SettingCodes.INITIAL_WINDOW_SIZE: 1000})
            number = client.ask(None, end=False)
            left = memoryview(bytes(range(256)) * 20_000)  # five windows of the server's
            sent = left.tobytes()
            while left:
                room = min(client.h2.local_flow_control_window(number), client.h2.max_outbound_frame_size, len(left))
                if room:
                    client.h2.send_data(number, left[:room], end_stream=room == len(left))
                    left = left[room:]
                    client.flush()
                    await client.writer.drain()
                else:
                    before = len(client.events)
                    await client.read_until(lambda before=before: len(client.events) > before)
            await client.read_until(lambda: len(body_of(client, number)) >= 1000)
            await asyncio.sleep(0.05)
            assert len(body_of(client, number)) == 1000, "no more than the client has room for"
            client.h2.increment_flow_control_window(len(sent), number)
            client.h2.increment_flow_control_window(len(sent))
            client.flush()
            await client.ended(number)
            assert body_of(client, number) == sent
            assert client.status(number)["end"] == "1"
            assert echo.open == []
            client.close()

    run(work())


def test_a_client_that_does_not_read_holds_up_nobody_else() -> None:
    async def work() -> None:
        echo = Echo()
        async with serving(echo) as (_, port):
            deaf = await Http2Client.connect(port, {SettingCodes.INITIAL_WINDOW_SIZE: 2**30})
            deaf.h2.increment_flow_control_window(2**30)
            for _ in range(20):
                deaf.ask(b"", call_headers("/large"))
            await until(lambda: len(echo.open) > 0)
            await asyncio.sleep(0.1)
            assert echo.open, "what the sockets do not take waits"
            other = await Http2Client.connect(port)
            await other.ended(other.ask(b"here"))
            deaf.close()
            await until(lambda: not echo.open)
            other.close()

    run(work())


def test_a_request_that_is_taken_back_is_let_go_and_the_others_are_answered() -> None:
    async def work() -> None:
        echo = Echo()
        echo.may.clear()
        async with serving(echo) as (_, port):
            client = await Http2Client.connect(port)
            first, second = client.ask(b"1"), client.ask(b"2")
            await until(lambda: len(echo.open) == 2)
            request = echo.open[0]
            client.h2.reset_stream(first, ErrorCodes.CANCEL)
            client.flush()
            await until(lambda: request.is_over == 1)
            echo.may.set()
            await client.ended(second)
            assert body_of(client, first) == b"" and body_of(client, second) == b"2"
            client.close()

    run(work())


def test_a_server_that_closes_answers_what_it_has_and_sends_new_requests_elsewhere() -> None:
    async def work() -> None:
        echo = Echo()
        echo.may.clear()
        async with serving(echo) as (server, port):
            client = await Http2Client.connect(port)
            first = client.ask(b"1")
            await until(lambda: bool(echo.open))
            closing = asyncio.create_task(server.close())
            await asyncio.sleep(0.05)
            late = client.ask(b"2")
            await client.read_until(lambda: bool(client.of(late, StreamReset)))
            assert client.of(late, StreamReset)[0].error_code == ErrorCodes.REFUSED_STREAM
            echo.may.set()
            goodbye = await client.hung_up()
            assert goodbye is not None
            assert (goodbye.error_code, goodbye.last_stream_id) == (ErrorCodes.NO_ERROR, first)
            assert body_of(client, first) == b"1"
            await closing

    run(work())


def resets(client: Http2Client) -> None:
    for _ in range(20):
        number = client.ask(None, end=False)
        client.h2.reset_stream(number)
    client.flush()


def pings(client: Http2Client) -> None:
    for _ in range(20):
        client.h2.ping(b"12345678")
    client.flush()


def empty_parts(client: Http2Client) -> None:
    number = client.ask(None, end=False)
    for _ in range(20):
        client.h2.send_data(number, b"")
    client.flush()


def unknown_frames(client: Http2Client) -> None:
    client.writer.write(b"\0\0\0\xfa\0\0\0\0\0" * 20)


@pytest.mark.parametrize("flood", [resets, pings, empty_parts, unknown_frames])
def test_who_keeps_the_server_busy_with_nothing_is_hung_up_on(flood: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http2_request, "_IDLE_FRAMES", 15)

    async def work() -> None:
        echo = Echo()
        async with serving(echo) as (_, port):
            busy = await Http2Client.connect(port)
            flood(busy)  # type: ignore[operator]
            goodbye = await busy.hung_up()
            assert goodbye is not None and goodbye.error_code == ErrorCodes.ENHANCE_YOUR_CALM
            other = await Http2Client.connect(port)
            await other.ended(*[other.ask(b"here") for _ in range(40)])
            assert not other.closed, "what is answered is not nothing"
            assert echo.open == []
            other.close()

    run(work())


def frames(*parts: Frame) -> bytes:
    return b"".join(part.serialize() for part in parts)


BROKEN = {
    "another protocol": b"GET / HTTP/1.1\r\nhost: a\r\n\r\n",
    "large headers": frames(HeadersFrame(1, b"\x40\x01a\x7f\xe1\xff\x03" + b"b" * 70_000)),
    "headers without end": frames(HeadersFrame(1, b"\x82"), *[ContinuationFrame(1, b"\x84") for _ in range(200)]),
    "headers that are none": frames(HeadersFrame(1, b"\xff\xff\xff\xff\xff\xff\xff", flags=["END_HEADERS"])),
    "a frame that is too large": b"\x7f\xff\xff\0\0\0\0\0\1",
}


@pytest.mark.parametrize("broken", BROKEN.values(), ids=BROKEN.keys())
def test_who_breaks_the_protocol_is_hung_up_on_and_nobody_else(broken: bytes) -> None:
    async def work() -> None:
        echo = Echo()
        echo.may.clear()
        async with serving(echo) as (_, port):
            other = await Http2Client.connect(port)
            number = other.ask(b"here")
            client = await Http2Client.connect(port)
            client.ask(b"waits")
            await until(lambda: len(echo.open) == 2)
            client.writer.write(broken)
            await client.hung_up()
            assert client.closed
            echo.may.set()
            await other.ended(number)
            assert echo.open == []
            other.close()

    run(work())


def test_slow_requests_and_idle_clients_are_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serving.doors.server._SWEEP_SECONDS", 0.05)

    async def work() -> None:
        async with serving(Echo(read_seconds=0.3), Http2Limits(idle_seconds=0.5)) as (_, port):
            client = await Http2Client.connect(port)
            number = client.ask(b"a part", end=False)
            await client.ended(number)
            assert client.status(number) == {":status": "408"}
            goodbye = await client.hung_up()
            assert goodbye is not None and goodbye.error_code == ErrorCodes.NO_ERROR

    run(work())


def test_who_sends_no_more_is_not_waited_on_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serving.doors.server._SWEEP_SECONDS", 0.05)

    async def work() -> None:
        echo = Echo()
        async with serving(echo, Http2Limits(idle_seconds=0.5)) as (_, port):
            echo.may.clear()  # as for a call that ends with its client only, such as a watch of the health
            client = await Http2Client.connect(port)
            client.ask(b"a")
            await until(lambda: len(echo.open) == 1)
            client.close()
            await until(lambda: not echo.open)

    run(work())
