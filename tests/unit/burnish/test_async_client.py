import asyncio
import inspect
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

import burnish
from burnish.async_client import AsyncClient
from burnish.client import Client
from burnish.errors import RemoteError
from flows.api_app import build_app
from tests.unit.burnish.bridge import CONTROL, GATEWAY, answer_with, by_host, to_app
from tests.unit.flows.api_stack import FakeStack, fake_stack


@pytest.fixture
def stack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeStack]:
    made = fake_stack(tmp_path)
    made.register()
    answer_with(monkeypatch, by_host({CONTROL: to_app(TestClient(build_app(made.platform)))}))
    yield made


def test_every_call_of_the_client_can_be_awaited_with_the_same_arguments() -> None:
    calls = {name for name, found in vars(Client).items() if inspect.isfunction(found) and not name.startswith("_")}
    calls |= {name for base in Client.__bases__ for name, found in vars(base).items() if inspect.isfunction(found)}
    for name in calls - {"close"}:
        assert inspect.signature(getattr(AsyncClient, name)) == inspect.signature(getattr(Client, name)), name


def test_calls_are_awaited_off_the_event_loop(stack: FakeStack) -> None:
    async def ask() -> tuple[object, ...]:
        async with burnish.AsyncClient(CONTROL, GATEWAY) as client:
            release = await client.promote("digits", 1)
            with pytest.raises(RemoteError, match="no model"):
                await client.versions("other")
            both = await asyncio.gather(client.models(), client.traffic("digits"))
            return (release.generation, both[0][0].champion, both[1].percentages)

    assert asyncio.run(ask()) == (1, 1, {1: 100})


def test_the_loop_goes_on_while_a_call_waits(stack: FakeStack, monkeypatch: pytest.MonkeyPatch) -> None:
    goes_on = threading.Event()
    real = stack.platform.ledger.listings.count

    def count() -> int:
        assert goes_on.wait(60)
        return real()

    monkeypatch.setattr(stack.platform.ledger.listings, "count", count)

    async def ask() -> int:
        async with AsyncClient(CONTROL, GATEWAY) as client:
            asked = asyncio.ensure_future(client.status())
            await asyncio.sleep(0)
            goes_on.set()
            return (await asked).models

    assert asyncio.run(ask()) == 1
