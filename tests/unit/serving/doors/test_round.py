"""Requests of one round of the loop are answered together: how many, in which order, and for whom."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from serving.doors.http_messages import Eventual, Reply, Request
from serving.doors.round import MOST_BYTES, MOST_REQUESTS, Round
from tests.unit.serving.doors.http_echo import CLOSE, Echo, connect, serving
from tests.unit.serving.engine.doubles import run, until


class Client:
    """A connection that keeps what it is answered."""

    def __init__(self) -> None:
        self.gone = False
        self.aborted = False
        self.answers: list[Eventual] = []

    def answered(self, answer: Eventual) -> None:
        self.answers.append(answer)

    def abort(self) -> None:
        self.aborted = True


class Application:
    """Answers with the path; keeps which requests came together."""

    def __init__(self) -> None:
        self.together: list[list[str]] = []

    def __call__(self, requests: Sequence[Request]) -> list[Eventual]:
        self.together.append([request.path for request in requests])
        if any(request.path == "broken" for request in requests):
            raise ZeroDivisionError
        return [Reply(200, request.path.encode(), []) for request in requests]


def ask(round_: Round[Request, Reply], *paths: str, body: bytes = b"") -> list[Any]:
    clients = [Client() for _ in paths]
    for client, path in zip(clients, paths, strict=True):
        round_.ask(client, Request("GET", path, [], body))
    return clients


def test_nobody_is_answered_before_the_round_is_over_and_everybody_is_then() -> None:
    async def work() -> None:
        application = Application()
        round_ = Round(application)
        clients = ask(round_, "a", "b")
        clients += ask(round_, "c", "d")
        clients[1].gone = True
        assert application.together == []
        await asyncio.sleep(0)
        assert application.together == [["a", "c", "d"]], "who has gone is not asked for"
        assert [[answer.body for answer in client.answers] for client in clients] == [[b"a"], [], [b"c"], [b"d"]]
        ask(round_, "e")
        await asyncio.sleep(0)
        assert application.together[1:] == [["e"]]

    run(work())


def test_so_many_requests_and_bytes_go_together_and_other_work_has_its_turn_in_between() -> None:
    async def work() -> None:
        application = Application()
        round_ = Round(application)
        names = [str(number) for number in range(2 * MOST_REQUESTS + 1)]
        clients = ask(round_, *names)
        await asyncio.sleep(0)
        assert application.together == [names[:MOST_REQUESTS]]
        ask(round_, "later")
        await until(lambda: all(client.answers for client in clients))
        await asyncio.sleep(0)
        assert [path for some in application.together for path in some] == [*names, "later"]
        application.together.clear()
        clients = ask(round_, "a", "b", "c", "d", body=bytes(MOST_BYTES // 2))
        clients += ask(round_, "e", body=bytes(2 * MOST_BYTES))
        await until(lambda: all(client.answers for client in clients))
        assert application.together == [["a", "b"], ["c", "d"], ["e"]]

    run(work())


def test_who_asks_what_breaks_the_application_is_hung_up_on_and_the_next_ones_are_answered() -> None:
    async def work() -> None:
        raised = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: raised.append(context["exception"]))
        round_ = Round(Application())
        clients = ask(round_, *["a"] * (MOST_REQUESTS - 1), "broken", "next")
        await until(lambda: bool(clients[-1].answers))
        assert [client.aborted for client in clients] == [True] * MOST_REQUESTS + [False]
        assert [type(error) for error in raised] == [ZeroDivisionError]

    run(work())


@pytest.mark.parametrize("pause", [False, True])
def test_many_clients_at_once_each_get_their_own_answers_in_order(pause: bool) -> None:
    async def work() -> None:
        echo = Echo()
        echo.go.set()
        async with serving(echo) as (_, port):
            clients = [await connect(port) for _ in range(40)]
            for number, (_, writer) in enumerate(clients):
                asked = [b"GET /%s/%d/%d HTTP/1.1\r\nhost: a\r\n" % (b"a", number, one) for one in range(4)]
                asked.insert(2, b"GET /later HTTP/1.1\r\nhost: a\r\n")
                writer.write(b"\r\n".join(asked) + b"\r\n" + b"GET /end HTTP/1.1\r\nhost: a\r\n" + CLOSE + b"\r\n")
                if pause:
                    await asyncio.sleep(0)
            for number, (reader, writer) in enumerate(clients):
                found = await asyncio.wait_for(reader.read(), 30)
                paths = [line.split()[1] for line in found.splitlines() if line.startswith(b"GET /")]
                own = [b"/a/%d/%d" % (number, one) for one in range(4)]
                assert paths == [*own[:2], b"/later", *own[2:], b"/end"]
                writer.close()

    run(work())
