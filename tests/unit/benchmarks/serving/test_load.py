"""The load generator against servers whose answers are known."""

import asyncio
import os
from pathlib import Path

import pytest

from benchmarks.ports import free_ports
from benchmarks.serving.figures import LoadJob, Round, Target
from benchmarks.serving.load import hold

BODY = b'{"x": 1}'


class Answers:
    """A server that answers every third request with an error, or hangs up."""

    def __init__(self, *, hangs_up: bool) -> None:
        self.seen: list[bytes] = []
        self._hangs_up = hangs_up

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                self.seen.append(head + await reader.readexactly(len(BODY)))
                if self._hangs_up:
                    break
                status = b"500 No" if len(self.seen) % 3 == 0 else b"200 OK"
                writer.write(b"HTTP/1.1 " + status + b"\r\ncontent-length: 2\r\n\r\n{}")
        except asyncio.IncompleteReadError:
            pass
        finally:
            writer.close()


async def held(folder: Path, *, hangs_up: bool = False) -> tuple[Round, list[bytes]]:
    answers = Answers(hangs_up=hangs_up)
    server = await asyncio.start_server(answers.serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server:
        return await hold(job(folder, port)), answers.seen


def job(folder: Path, port: int) -> LoadJob:
    body = folder / "body"
    body.write_bytes(BODY)
    target = Target(name="t", server="s", ports=(port,), path="/p", headers={"x-one": "1"}, body=body)
    return LoadJob(target=target, connections=3, warm_seconds=0.02, seconds=0.1, pids=(os.getpid(),))


def test_every_answer_is_counted_and_those_that_are_no_success_are_errors(tmp_path: Path) -> None:
    found, seen = asyncio.run(held(tmp_path))
    assert found.errors == len(seen) // 3 > 0
    assert 0 < found.requests <= len(seen) - found.errors
    assert found.first_error == "status 500"
    assert 0 < found.p50_ms <= found.p99_ms
    assert set(seen) == {b"POST /p HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: 8\r\nx-one: 1\r\n\r\n" + BODY}


def test_a_connection_that_is_lost_is_an_error(tmp_path: Path) -> None:
    found, _ = asyncio.run(held(tmp_path, hangs_up=True))
    assert (found.requests, found.errors) == (0, 3)
    assert "the connection was lost" in found.first_error


@pytest.mark.parametrize("pids", [(), (2**22 - 1,)])
def test_a_server_that_is_gone_is_an_error_of_the_round(tmp_path: Path, pids: tuple[int, ...]) -> None:
    (port,) = free_ports([(0,)])
    found = asyncio.run(hold(job(tmp_path, port).model_copy(update={"pids": pids})))
    assert (found.requests, found.errors) == (0, 1)
    assert found.first_error
