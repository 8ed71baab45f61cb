"""Lists of thousands of models, asked at every door: whole, and the loop runs other work while they are made."""

import asyncio
from collections.abc import Awaitable, Callable
from itertools import pairwise
from typing import Any

import pytest

from serving.engine import repository
from serving.engine.slices import AT_ONCE
from serving.engine.worker import Worker
from tests.unit.serving.doors import test_grpc
from tests.unit.serving.doors.rest_client import VERSIONS, open_door
from tests.unit.serving.engine.doubles import entry, run

MODELS = 2000


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Every entry of a list, as it is made."""
    found: list[object] = []

    def kept(make: Callable[..., object]) -> Callable[..., object]:
        def keep(*given: Any) -> object:  # noqa: ANN401
            found.append(make(*given))
            return found[-1]

        return keep

    monkeypatch.setattr(repository, "IndexEntry", kept(repository.IndexEntry))
    monkeypatch.setattr(repository, "VersionStatistics", kept(repository.VersionStatistics))
    monkeypatch.setattr(Worker, "_model_status", kept(Worker._model_status))
    return found


async def most_at_once(work: Awaitable[object], made: list[object]) -> int:
    """Return how many entries were made at most between two turns of another task."""
    waiting = asyncio.ensure_future(work)
    seen = [0]
    while not waiting.done():
        await asyncio.sleep(0)
        seen.append(len(made))
    await waiting
    return max(later - earlier for earlier, later in pairwise(seen))


def adopt_many(worker: Worker) -> None:
    for number in range(MODELS):
        worker.live.adopt(entry(1, {1: 100}, VERSIONS[:1], f"many-{number}"))


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/burnish/catalog"), ("POST", "/v2/repository/index"), ("GET", "/v2/models/stats")]
)
def test_a_long_list_over_rest_leaves_turns_to_others(
    worker: Worker, made: list[object], method: str, path: str
) -> None:
    async def work() -> None:
        async with open_door(worker) as client:
            adopt_many(worker)
            listed = asyncio.ensure_future(client.request(method, path))
            assert 0 < await most_at_once(listed, made) <= AT_ONCE
            assert listed.result().text.count('"many-') == MODELS

    run(work())


@pytest.mark.parametrize("call", ["RepositoryIndex", "ModelStatistics"])
def test_a_long_list_over_grpc_leaves_turns_to_others(worker: Worker, made: list[object], call: str) -> None:
    async def work() -> None:
        async with test_grpc.open_door(worker) as client:
            adopt_many(worker)
            listed = asyncio.ensure_future(client(call))
            assert 0 < await most_at_once(listed, made) <= AT_ONCE
            assert str(listed.result()).count('"many-') == MODELS

    run(work())
