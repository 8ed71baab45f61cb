"""Version swaps under open-loop load on real workers: nothing lost, and nothing old after a worker has acknowledged."""

import asyncio
import time
from dataclasses import dataclass

import orjson
import pytest

from registry.records.release import Shadow
from tests.integration.load import Account, Answered, infer_body, open_loop
from tests.integration.workers import Workers, until

RATE = 60.0
PATH = "/v2/models/m/infer"


@dataclass(frozen=True)
class Swap:
    """One promotion: when its file was renamed, and when both workers had acknowledged it."""

    version: int
    published: float
    acknowledged: float


@pytest.fixture(scope="module", autouse=True)
def _first(workers: Workers) -> None:
    workers.publish("m", 1, 1)
    until(lambda: workers.generations("m") == [1, 1], "the model is known")


async def swap(workers: Workers, count: int) -> tuple[Account, list[Swap]]:
    """Promote one version after the other while requests go to both doors."""
    first = workers.generations("m")[0]
    swaps = [Swap(await asyncio.to_thread(_champion, workers), time.monotonic(), time.monotonic())]
    async with open_loop(workers.doors, PATH, infer_body([1, 2], [3, 4]), RATE) as account:
        for number in range(1, count + 1):
            generation, version = first + number, swaps[-1].version % 3 + 1
            shadow = Shadow(version=version % 3 + 1) if number % 2 else None
            published = time.monotonic()
            await asyncio.to_thread(workers.publish, "m", generation, version, shadow=shadow)
            while await asyncio.to_thread(workers.generations, "m") != [generation] * 2:
                assert time.monotonic() < published + 60
            swaps.append(Swap(version, published, time.monotonic()))
        await asyncio.sleep(0.5)
    return account, swaps


def _champion(workers: Workers) -> int:
    return int(workers.status(0)["models"]["m"]["champion"])


def allowed(answer: Answered, swaps: list[Swap]) -> set[int]:
    """The versions that may have answered: not replaced before it was sent, not published after it was answered."""
    current = max(index for index, one in enumerate(swaps) if one.acknowledged <= answer.sent or index == 0)
    return {one.version for one in swaps[current:] if one.published <= answer.answered or one is swaps[current]}


@pytest.mark.parametrize("count", [12, pytest.param(100, marks=pytest.mark.slow)])
def test_swaps_lose_nothing_and_nothing_old_answers_after_an_acknowledgement(workers: Workers, count: int) -> None:
    account, swaps = asyncio.run(swap(workers, count))
    account.check()
    assert len(swaps) == count + 1
    assert [answer for answer in account.answers if answer.version not in allowed(answer, swaps)] == []
    for answer in account.answers:
        data = orjson.loads(answer.body)["outputs"][0]["data"]
        assert data == [answer.version * value for value in (1, 2, 3, 4)]  # type: ignore[operator]
    assert set(account.by_version) == {1, 2, 3}


def compared(workers: Workers) -> int:
    """How many pairs both workers have compared."""
    return sum(int(workers.status(worker)["shadow"]["compared"]) for worker in (0, 1))


async def until_compared(workers: Workers, count: int) -> int:
    """Send requests until the shadows have compared some of them; return how many were sent."""
    async with open_loop(workers.doors, PATH, infer_body([1, 2]), RATE / 4) as account:
        while await asyncio.to_thread(compared, workers) < count:
            assert account.sent < 90 * RATE
            await asyncio.sleep(0.2)
    account.check()
    return account.sent


def test_a_shadow_is_compared_with_what_answers(workers: Workers) -> None:
    generation = workers.generations("m")[0] + 1
    workers.publish("m", generation, 1, shadow=Shadow(version=3))
    until(lambda: workers.generations("m") == [generation] * 2, "the shadow is set")
    sent = asyncio.run(until_compared(workers, compared(workers) + 10))
    assert sent >= 10
    pairs = [found for worker in (0, 1) for found in workers.status(worker)["shadow"]["models"].get("m", [])]
    assert pairs
    for found in pairs:
        assert (found["primary"], found["shadow"], found["failed"]) == (1, 3, 0)
        assert found["outputs"]["y"]["max_abs"]["max"] == 4.0, "3 x [1, 2] beside [1, 2]"
        assert found["outputs"]["y"]["top1_agreement"] == 1.0
    until(lambda: any((workers.home / "capture/m/shadow").glob("*.parquet")), "the pairs are on disk")
