"""What is live: the old answers until the new is loaded, and stays if it cannot be."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing

import pytest

from registry.errors import ModelNotFound, TransientError
from serving.engine.infer import contain
from serving.engine.live import Live
from serving.engine.residency import Residency, ResidencyLimits
from serving.engine.runs import RunThreads
from tests.unit.serving.engine.doubles import FakeSession, FakeWorld, entry, run, served, until

VERSIONS = [served(1), served(2)]


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> FakeWorld:
    world = FakeWorld().install(monkeypatch)
    for version in VERSIONS:
        world.add(version, FakeSession())
    return world


@asynccontextmanager
async def open_live(world: FakeWorld) -> AsyncIterator[Live]:
    with closing(RunThreads(1)) as runs:
        residency = Residency(world, ResidencyLimits(100, 10), contain, runs)
        live = Live(residency)
        yield live
        await live.settled()
        await residency.close()


def answering(live: Live) -> int:
    return live.route("m", None, "unit").served.version


def test_the_first_entries_are_in_force_at_once_and_nothing_is_loaded(world: FakeWorld) -> None:
    async def work() -> None:
        async with open_live(world) as live:
            live.adopt(entry(1, {1: 100}, VERSIONS))
            assert answering(live) == 1
            assert live.route("m", 2, "unit").served.version == 2
            assert world.loads == []

    run(work())


def test_a_promotion_swaps_only_after_the_new_version_is_loaded(world: FakeWorld) -> None:
    async def work() -> None:
        async with open_live(world) as live:
            live.adopt(entry(1, {1: 100}, VERSIONS))
            world.may_load.clear()
            live.offer("m", entry(2, {2: 100}, VERSIONS))
            await until(lambda: bool(world.loads))
            assert answering(live) == 1
            world.may_load.set()
            while answering(live) == 1:
                await asyncio.sleep(0)
            assert live.route("m", None, "unit").batcher is not None
            assert live.models["m"].champion == 2
            assert world.loads == [VERSIONS[1].artifact.sha256], "the old one was not loaded for the swap"

    run(work())


def test_a_version_that_cannot_be_loaded_leaves_the_old_live(world: FakeWorld) -> None:
    async def work() -> None:
        async with open_live(world) as live:
            live.adopt(entry(1, {1: 100}, VERSIONS))
            world.sessions[VERSIONS[1].artifact.sha256].broken = True
            promotion = entry(2, {2: 100}, VERSIONS)
            live.offer("m", promotion)
            await live.settled()
            assert answering(live) == 1
            assert live.models["m"].entry.generation == 1
            assert "m version 2 cannot be loaded: ZeroDivisionError" in live.refusals["m"].reason
            live.retry()
            await live.settled()
            assert len(world.loads) == 1, "not again before its time"
            world.sessions[VERSIONS[1].artifact.sha256].broken = False
            for slot in live.models["m"].slots.values():
                slot.retry_at = 0
            live.offer("m", promotion)
            await live.settled()
            assert answering(live) == 2
            assert live.refusals == {}

    run(work())


def test_refused_entries_are_tried_again_in_time(world: FakeWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serving.engine.live.RETRY_SECONDS", 0)
    monkeypatch.setattr("serving.engine.residency.RETRY_SECONDS", 0)

    async def work() -> None:
        async with open_live(world) as live:
            lost = world.sessions.pop(VERSIONS[0].artifact.sha256)
            live.offer("m", entry(1, {1: 100}, VERSIONS))
            await live.settled()
            with pytest.raises(TransientError, match="m version 1 cannot be loaded"):
                answering(live)
            world.add(VERSIONS[0], lost)
            live.retry()
            await live.settled()
            assert answering(live) == 1

    run(work())


def test_of_entries_that_come_during_a_load_the_latest_wins(world: FakeWorld) -> None:
    async def work() -> None:
        async with open_live(world) as live:
            live.adopt(entry(1, {1: 100}, VERSIONS))
            world.may_load.clear()
            for generation, version in ((2, 2), (3, 1), (4, 2)):
                live.offer("m", entry(generation, {version: 100}, VERSIONS))
                await asyncio.sleep(0)
            world.may_load.set()
            await live.settled()
            assert live.models["m"].entry.generation == 4
            assert answering(live) == 2

    run(work())


def test_a_new_model_is_announced_while_it_loads(world: FakeWorld) -> None:
    async def work() -> None:
        async with open_live(world) as live:
            world.may_load.clear()
            live.offer("m", entry(1, {1: 100}, VERSIONS))
            with pytest.raises(TransientError, match="m is being loaded"):
                answering(live)
            world.may_load.set()
            await live.settled()
            assert answering(live) == 1

    run(work())


def test_a_removed_model_is_unloaded_and_unknown(world: FakeWorld) -> None:
    async def work() -> None:
        async with open_live(world) as live:
            live.offer("m", entry(1, {1: 100}, VERSIONS))
            await live.settled()
            live.offer("m", None)
            await live.settled()
            with pytest.raises(ModelNotFound, match="there is no model m"):
                answering(live)
            await until(lambda: world.sessions[VERSIONS[0].artifact.sha256].closed)

    run(work())


def test_a_version_that_left_the_entry_is_unloaded(world: FakeWorld) -> None:
    async def work() -> None:
        async with open_live(world) as live:
            live.offer("m", entry(1, {1: 100}, VERSIONS))
            live.offer("m", entry(2, {2: 100}, VERSIONS[1:]))
            await live.settled()
            with pytest.raises(ModelNotFound, match=r"m has no version 1; there are \[2\]"):
                live.route("m", 1, "unit")

    run(work())


def test_without_a_split_versions_answer_by_number_only(world: FakeWorld) -> None:
    async def work() -> None:
        async with open_live(world) as live:
            live.adopt(entry(0, None, VERSIONS))
            assert live.models["m"].champion is None
            assert live.route("m", 1, "unit").served.version == 1
            with pytest.raises(ModelNotFound, match=r"no version of m is live; name one of \[1, 2\]"):
                answering(live)

    run(work())
