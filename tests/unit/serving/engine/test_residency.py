"""Residency: one load for all who wait, checked and warm; eviction never takes what is in use."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing

import numpy as np
import pytest

from registry.errors import TransientError
from serving.engine.infer import contain
from serving.engine.residency import Residency, ResidencyLimits
from serving.engine.runs import RunThreads
from serving.engine.slot import Slot
from tests.unit.serving.engine.doubles import MIB, FakeSession, FakeWorld, run, served, until

X = {"x": np.ones((1, 2), np.float32)}


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> FakeWorld:
    return FakeWorld().install(monkeypatch)


@asynccontextmanager
async def open_residency(world: FakeWorld, *, resident_mib: int = 100) -> AsyncIterator[Residency]:
    with closing(RunThreads(2)) as runs:
        residency = Residency(world, ResidencyLimits(resident_mib, 10), contain, runs)
        yield residency
        await residency.close()


def slots(world: FakeWorld, residency: Residency, count: int, resident_bytes: int = MIB) -> list[Slot]:
    versions = [served(number) for number in range(1, count + 1)]
    for version in versions:
        world.add(version, FakeSession(resident_bytes=resident_bytes))
    return [residency.slot("m", version) for version in versions]


async def use(residency: Residency, slot: Slot) -> None:
    await residency.hold(slot)
    residency.release(slot)


def loaded(given: list[Slot]) -> list[int]:
    return [slot.served.version for slot in given if slot.batcher is not None]


def test_one_load_serves_all_who_wait_and_the_loop_goes_on(world: FakeWorld) -> None:
    async def work() -> None:
        async with open_residency(world) as residency:
            (slot,) = slots(world, residency, 1)
            world.may_load.clear()
            waiting = [asyncio.create_task(use(residency, slot)) for _ in range(20)]
            await until(lambda: bool(world.loads))
            waiting[0].cancel()
            world.may_load.set()
            await asyncio.gather(*waiting[1:])
            await use(residency, slot)
            assert len(world.loads) == len(world.checkouts) == 1
            assert slot.holders == 0
            assert residency.resident_bytes == MIB

    run(work())


def test_what_the_allocator_keeps_for_the_thread_of_a_load_is_no_versions(world: FakeWorld) -> None:
    world.kept_bytes = MIB // 4

    async def work() -> None:
        async with open_residency(world) as residency:
            (slot,) = slots(world, residency, 1)
            await use(residency, slot)
            assert residency.resident_bytes == MIB - world.kept_bytes

    run(work())


def test_the_same_version_has_one_slot_and_another_content_another(world: FakeWorld) -> None:
    async def work() -> None:
        async with open_residency(world) as residency:
            assert residency.slot("m", served(1)) is residency.slot("m", served(1))
            assert residency.slot("m", served(1)) is not residency.slot("m", served(1, "other bytes"))
            assert residency.slot("m", served(1)) is not residency.slot("n", served(1))

    run(work())


def test_the_least_recently_used_goes_first(world: FakeWorld) -> None:
    async def work() -> None:
        async with open_residency(world, resident_mib=2) as residency:
            given = slots(world, residency, 3)
            for slot in (given[0], given[1], given[0], given[2]):
                await use(residency, slot)
            assert loaded(given) == [1, 3]
            assert residency.resident_bytes == 2 * MIB
            session = world.sessions[given[1].served.artifact.sha256]
            await until(lambda: session.closed)

    run(work())


def test_what_is_in_use_is_not_evicted_and_a_load_waits_until_it_is_free(world: FakeWorld) -> None:
    async def work() -> None:
        async with open_residency(world, resident_mib=1) as residency:
            given = slots(world, residency, 2)
            await residency.hold(given[0])
            second = asyncio.create_task(use(residency, given[1]))
            await until(lambda: given[1].loading is not None)
            await asyncio.sleep(0.02)
            assert loaded(given) == [1]
            assert len(world.loads) == 1
            residency.release(given[0])
            await second
            assert loaded(given) == [2]
            assert world.most_open == 1

    run(work())


def test_a_load_that_waits_in_vain_for_room_is_told_so(world: FakeWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serving.engine.room.WAIT_SECONDS", 0.01)

    async def work() -> None:
        async with open_residency(world, resident_mib=1) as residency:
            given = slots(world, residency, 2)
            await residency.hold(given[0])
            with pytest.raises(TransientError, match="m version 2 cannot be loaded: there is no room: requests hold"):
                await use(residency, given[1])
            residency.release(given[0])
            assert loaded(given) == [1]
            assert residency.room.budget.reserved[0] == 0

    run(work())


def test_a_run_that_outlives_its_cancelled_request_ends_before_the_session_is_closed(world: FakeWorld) -> None:
    async def work() -> None:
        async with open_residency(world, resident_mib=1) as residency:
            given = slots(world, residency, 2)
            session = world.sessions[given[0].served.artifact.sha256]
            batcher = await residency.hold(given[0])
            session.may_run.clear()
            request = asyncio.create_task(batcher.submit({"x": np.ones((5000, 2), np.float32)}, 5000))
            await until(session.running.is_set)
            request.cancel()
            residency.release(given[0])
            second = asyncio.create_task(use(residency, given[1]))
            await asyncio.sleep(0.02)
            assert len(world.loads) == 1
            session.may_run.set()
            await second
            assert session.closed
            assert loaded(given) == [2]
            assert session.shapes == [(5000, 2)]

    run(work())


def test_a_version_larger_than_the_budget_is_refused_and_then_not_tried(world: FakeWorld) -> None:
    async def work() -> None:
        async with open_residency(world, resident_mib=2) as residency:
            (slot,) = slots(world, residency, 1, resident_bytes=5 * MIB)
            for _ in range(2):
                with pytest.raises(TransientError, match=r"about 5\.0 MiB of memory, and this worker may hold 2"):
                    await use(residency, slot)
                slot.retry_at = 0
            assert len(world.loads) == 1, "what it needs is known after the first time"
            assert world.sessions[slot.served.artifact.sha256].closed
            assert residency.resident_bytes == 0

    run(work())


def test_a_pinned_version_stays_and_pins_beyond_the_budget_are_refused(world: FakeWorld) -> None:
    async def work() -> None:
        async with open_residency(world, resident_mib=2) as residency:
            given = slots(world, residency, 4)
            for slot in given[:2]:
                residency.pin(slot, True)
            await use(residency, given[0])
            for slot in given[2:]:
                await use(residency, slot)
            assert loaded(given) == [1, 4]
            await use(residency, given[1])
            assert loaded(given) == [1, 2]
            with pytest.raises(TransientError, match=r"1\.0 MiB of memory beside 2\.0 MiB of pinned models"):
                await use(residency, given[2])
            residency.pin(given[0], False)
            given[2].retry_at = 0
            await use(residency, given[2])
            assert loaded(given) == [2, 3]

    run(work())


def test_one_load_at_a_time_is_admitted_on_a_guess_and_many_once_the_cost_is_known(world: FakeWorld) -> None:
    async def work() -> None:
        async with open_residency(world) as residency:
            given = slots(world, residency, 30)
            budget = residency.room.budget
            world.may_load.clear()
            waiting = [asyncio.create_task(use(residency, slot)) for slot in given[:20]]
            await until(lambda: bool(world.loads))
            assert 0 < budget.reserved[0] < MIB
            assert len(world.checkouts) == 1
            world.may_load.set()
            await asyncio.gather(*waiting)
            world.may_check_out.clear()
            waiting = [asyncio.create_task(use(residency, slot)) for slot in given[20:]]
            await until(lambda: budget.reserved[0] == 10 * MIB)
            world.may_check_out.set()
            await asyncio.gather(*waiting)
            assert len(loaded(given)) == len(world.loads) == 30

    run(work())


def test_a_kind_whose_first_load_fails_is_learned_from_the_next(world: FakeWorld) -> None:
    async def work() -> None:
        async with open_residency(world) as residency:
            given = slots(world, residency, 3)
            world.sessions[given[0].served.artifact.sha256].broken = True
            found = await asyncio.gather(*(use(residency, slot) for slot in given), return_exceptions=True)
            assert [type(error) for error in found] == [TransientError, type(None), type(None)]
            assert loaded(given) == [2, 3]

    run(work())


@pytest.mark.parametrize("missing", [True, False])
def test_a_failed_load_names_the_version_and_is_not_repeated_at_once(world: FakeWorld, missing: bool) -> None:
    async def work() -> None:
        async with open_residency(world) as residency:
            (slot,) = slots(world, residency, 1)
            session = world.sessions[slot.served.artifact.sha256]
            session.broken = True
            if missing:
                world.sessions.clear()
            for _ in range(3):
                with pytest.raises(TransientError, match="m version 1 cannot be loaded: "):
                    await residency.hold(slot)
            assert len(world.checkouts) == 1
            assert slot.holders == 0
            assert residency.resident_bytes == 0
            assert missing or session.closed
            session.broken = False
            world.add(slot.served, session)
            slot.retry_at = 0
            await use(residency, slot)
            assert slot.failure is None

    run(work())


def test_a_retired_version_is_unloaded_after_its_last_request(world: FakeWorld) -> None:
    async def work() -> None:
        async with open_residency(world) as residency:
            given = slots(world, residency, 2)
            await residency.hold(given[0])
            await use(residency, given[1])
            for slot in given:
                residency.retire(slot)
            assert loaded(given) == [1]
            residency.release(given[0])
            assert loaded(given) == []
            assert residency.resident_bytes == 0
            assert residency.slot("m", given[0].served) is not given[0]

    run(work())


def test_closing_unloads_everything(world: FakeWorld) -> None:
    async def work() -> None:
        async with open_residency(world) as residency:
            for slot in slots(world, residency, 3):
                await use(residency, slot)
        assert all(session.closed for session in world.sessions.values())

    run(work())
