"""The loader: what is opened in a moment is opened and closed on the loop, all else beside it."""

import asyncio
import gc
import threading
import weakref
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from itertools import count

import pytest

from registry.errors import TransientError
from serving.engine import meter
from serving.engine.budget import LARGE_BYTES
from serving.engine.infer import contain
from serving.engine.residency import Residency, ResidencyLimits
from serving.engine.runs import RunThreads
from tests.unit.serving.engine.doubles import FakeSession, FakeWorld, run, served, sized, until

MEASURED = 8
"""Loads of a kind until it is known."""
LOOP = "MainThread"


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> FakeWorld:
    monkeypatch.setattr(meter, "thread_count", lambda: 0)  # the loader's own threads come while the first ones load
    return FakeWorld().install(monkeypatch)


@contextmanager
def knowing(world: FakeWorld) -> Iterator[Residency]:
    """A residency for which versions 1 to 8 are loaded."""
    with closing(RunThreads(2)) as runs:
        residency = Residency(world, ResidencyLimits(100, 10), contain, runs)
        for version in range(1, MEASURED + 8):
            world.add(served(version), FakeSession())
        yield residency


async def load(residency: Residency, *versions: int) -> None:
    for version in versions:
        slot = residency.slot("m", served(version))
        await residency.hold(slot)
        residency.release(slot)


def session(world: FakeWorld, version: int) -> FakeSession:
    return world.sessions[served(version).artifact.sha256]


def test_what_is_opened_in_a_moment_is_opened_and_closed_on_the_loop(world: FakeWorld) -> None:
    async def work() -> None:
        with knowing(world) as residency:
            await load(residency, *range(1, MEASURED + 3))
            assert LOOP not in world.loaded_by[:MEASURED]
            assert world.loaded_by[MEASURED:] == [LOOP] * 2
            residency.evict(residency.slot("m", served(MEASURED + 1)))
            await residency.close()
            assert session(world, MEASURED + 1).closed_by == session(world, MEASURED + 2).closed_by == LOOP

    run(work())


def test_what_is_work_is_opened_and_closed_beside_the_loop(world: FakeWorld) -> None:
    world.work_s = 0.01

    async def work() -> None:
        with knowing(world) as residency:
            await load(residency, *range(1, MEASURED + 3))
            await residency.close()
            assert LOOP not in world.loaded_by
            assert session(world, 1).closed_by.startswith("load_")

    run(work())


def test_a_kind_that_turns_out_to_be_work_is_no_more_opened_on_the_loop(world: FakeWorld) -> None:
    async def work() -> None:
        with knowing(world) as residency:
            await load(residency, *range(1, MEASURED + 2))
            world.work_s = 0.5
            await load(residency, MEASURED + 2, MEASURED + 3)
            assert world.loaded_by[MEASURED] == world.loaded_by[MEASURED + 1] == LOOP
            assert world.loaded_by[MEASURED + 2] != LOOP
            await residency.close()

    run(work())


def test_what_takes_threads_of_its_own_is_opened_beside_the_loop(
    world: FakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads = count()
    monkeypatch.setattr(meter, "thread_count", lambda: next(threads))

    async def work() -> None:
        with knowing(world) as residency:
            await load(residency, *range(1, MEASURED + 2))
            assert LOOP not in world.loaded_by
            await residency.close()

    run(work())


def test_the_loop_does_not_wait_for_a_load_that_is_being_measured(
    world: FakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(meter, "_MEASURED_EVERY", MEASURED + 1)

    async def work() -> None:
        with knowing(world) as residency:
            await load(residency, *range(1, MEASURED + 1))
            world.may_load.clear()
            measured = asyncio.create_task(load(residency, MEASURED + 1))
            await until(lambda: len(world.loads) == MEASURED + 1)
            other = asyncio.create_task(load(residency, MEASURED + 2))
            await until(lambda: len(world.checkouts) == MEASURED + 2)
            residency.evict(residency.slot("m", served(1)))
            await asyncio.sleep(0.01)
            world.may_load.set()
            await asyncio.gather(measured, other)
            assert LOOP not in world.loaded_by
            await residency.close()
            assert session(world, 1).closed_by != LOOP

    run(work())


def test_a_version_that_fails_on_the_loop_fails_as_any_other(world: FakeWorld) -> None:
    async def work() -> None:
        with knowing(world) as residency:
            await load(residency, *range(1, MEASURED + 1))
            session(world, MEASURED + 1).broken = True
            with pytest.raises(TransientError, match=f"m version {MEASURED + 1} cannot be loaded: "):
                await load(residency, MEASURED + 1)
            assert world.loaded_by[-1] == session(world, MEASURED + 1).closed_by == LOOP
            await load(residency, MEASURED + 2)
            assert residency.resident_versions == MEASURED + 1
            await residency.close()

    run(work())


@pytest.mark.parametrize("loads", [1, MEASURED + 2], ids=["beside the loop", "on the loop"])
def test_nothing_of_an_unloaded_version_waits_for_the_garbage_collector(world: FakeWorld, loads: int) -> None:
    async def work() -> None:
        with knowing(world) as residency:
            await load(residency, *range(1, loads + 1))
            slot = residency.slot("m", served(loads))
            assert slot.batcher is not None
            batcher = weakref.ref(slot.batcher)
            residency.evict(slot)
            await until(lambda: batcher() is None)
            assert session(world, loads).closed
            await residency.close()

    gc.disable()
    try:
        run(work())
    finally:
        gc.enable()


def test_a_runtime_is_set_up_once_for_a_large_and_a_small_version(
    world: FakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    large = sized(served(1), LARGE_BYTES)
    set_ups = 0
    both = threading.Barrier(2)

    def set_up() -> None:
        nonlocal set_ups
        set_ups += 1
        with suppress(threading.BrokenBarrierError):
            both.wait(0.5)

    monkeypatch.setattr(world, "set_up", set_up)

    async def work() -> None:
        with knowing(world) as residency:
            slots = residency.slot("m", large), residency.slot("m", served(2))
            await asyncio.gather(*map(residency.hold, slots))
            for slot in slots:
                residency.release(slot)
            await residency.close()

    run(work())
    assert set_ups == 1
