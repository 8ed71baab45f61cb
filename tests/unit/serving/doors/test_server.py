"""A door beside its port: a socket file, for one user alone, that outlives nobody."""

import asyncio
import socket
import stat
from pathlib import Path

import pytest

from serving.doors.http import HttpConnection, http_server
from serving.doors.server import Connection, Server
from serving.engine.shared_bound import SharedBound
from tests.unit.serving.doors.http_echo import CLOSE, SLOW, Echo, refuse

ASK = b"POST /a HTTP/1.1\r\nhost: h\r\ncontent-length: 2\r\n" + CLOSE + b"\r\nxy"


def server() -> Server:
    return http_server(Echo(), refuse, SLOW, drain_seconds=5, bodies=SharedBound(2**30))


async def answer(file: Path) -> bytes:
    reader, writer = await asyncio.open_unix_connection(file)
    writer.write(ASK)
    found = await asyncio.wait_for(reader.read(), 30)
    writer.close()
    return found


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_the_file_answers_as_the_port_does_and_is_for_its_owner_alone(tmp_path: Path) -> None:
    async def work() -> None:
        file = tmp_path / "doors" / "rest"
        file.parent.mkdir(mode=0o755)
        door = server()
        port = await door.open("127.0.0.1", 0, file)
        assert (mode(file.parent), mode(file)) == (0o700, 0o600)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(ASK)
        by_port = await asyncio.wait_for(reader.read(), 30)
        writer.close()
        assert await answer(file) == by_port
        assert by_port.endswith(b"POST /a xy")
        await door.close()
        assert not file.exists()

    asyncio.run(work())


def test_a_file_that_a_killed_worker_has_left_is_replaced(tmp_path: Path) -> None:
    async def work() -> None:
        file = tmp_path / "rest"
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(str(file))
        door = server()
        await door.open("127.0.0.1", 0, file)
        assert (await answer(file)).endswith(b"POST /a xy")
        await door.close()

    asyncio.run(work())


def test_who_finds_the_port_taken_leaves_the_file_to_who_has_it(tmp_path: Path) -> None:
    async def work() -> None:
        file = tmp_path / "rest"
        first, second = server(), server()
        port = await first.open("127.0.0.1", 0, file)
        with pytest.raises(OSError, match="in use"):
            await second.open("127.0.0.1", port, file)
        await second.close()
        assert (await answer(file)).endswith(b"POST /a xy")
        await first.close()

    asyncio.run(work())


def test_who_comes_while_the_port_is_closed_is_answered_and_hung_up_on(monkeypatch: pytest.MonkeyPatch) -> None:
    aborted: list[Connection] = []
    monkeypatch.setattr(HttpConnection, "abort", aborted.append)

    async def work() -> None:
        door = server()
        closing: list[asyncio.Task[None]] = []
        connect = door._connect

        def connect_while_closing() -> Connection:
            closing.append(asyncio.create_task(door.close()))  # goes on before the connection is told that it is made
            return connect()

        monkeypatch.setattr(door, "_connect", connect_while_closing)
        port = await door.open("127.0.0.1", 0)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(ASK.replace(CLOSE, b""))
        assert (await asyncio.wait_for(reader.read(), 10)).endswith(b"POST /a xy")
        await closing[0]
        writer.close()

    asyncio.run(work())
    assert aborted == [], "what it asks next would be cut off"
