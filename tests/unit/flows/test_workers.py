import httpx
import pytest

from flows.workers import Acknowledgement, Workers

URLS = ("http://door.test:8100", "http://door.test:8110")


class Doors:
    """Workers that serve a generation each: one that grows with every question, or none while they are down."""

    def __init__(self, *generations: list[int | None]) -> None:
        self.generations = dict(zip((8100, 8110), generations, strict=True))
        self.asked = {8100: 0, 8110: 0}

    def __call__(self, request: httpx.Request) -> httpx.Response:
        port = request.url.port or 0
        self.asked[port] += 1
        script = self.generations[port]
        generation = script.pop(0) if len(script) > 1 else script[0]
        if generation is None:
            raise httpx.ConnectError("connection refused", request=request)
        assert request.url.path == "/burnish/catalog/digits"
        if not generation:
            return httpx.Response(404, json={"error": "there is no model digits"})
        return httpx.Response(200, json={"generation": generation})


def ask(doors: Doors, wait_s: float = 5.0) -> Acknowledgement:
    with httpx.Client(transport=httpx.MockTransport(doors)) as http:
        return Workers(http, URLS, wait_s=wait_s).await_generation("digits", 3)


def test_waits_until_every_worker_serves_the_generation_or_a_later_one() -> None:
    doors = Doors([0, 2, 3], [4])
    assert ask(doors) == Acknowledgement(acknowledged=(0, 1), pending=())
    assert doors.asked == {8100: 3, 8110: 1}


def test_the_wait_is_bounded() -> None:
    assert ask(Doors([2], [3]), wait_s=0.1) == Acknowledgement(acknowledged=(1,), pending=(0,))


def test_a_worker_that_is_down_is_pending_and_not_waited_for() -> None:
    doors = Doors([None], [2, 3])
    assert ask(doors, wait_s=60) == Acknowledgement(acknowledged=(1,), pending=(0,))
    assert doors.asked[8100] == 1


@pytest.mark.parametrize(
    "answer", [httpx.Response(503), httpx.Response(200, text="<html>"), httpx.Response(200, json={})]
)
def test_an_answer_that_says_nothing_is_not_an_acknowledgement(answer: httpx.Response) -> None:
    with httpx.Client(transport=httpx.MockTransport(lambda _: answer)) as http:
        found = Workers(http, URLS, wait_s=0.05).await_generation("digits", 1)
    assert found.pending == (0, 1)
