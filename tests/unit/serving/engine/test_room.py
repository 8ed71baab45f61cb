"""Room: the budget is kept, by what the process really holds, and no more goes than must."""

import asyncio
from typing import Any

import pytest

from serving.engine.budget import slack_bytes
from tests.unit.serving.engine.doubles import MIB, FakeSession, FakeWorld, run, served, sized, until
from tests.unit.serving.engine.test_residency import loaded, open_residency, slots, use


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> FakeWorld:
    return FakeWorld().install(monkeypatch)


def test_a_process_that_holds_more_than_its_sessions_loads_less(world: FakeWorld) -> None:
    async def work() -> None:
        async with open_residency(world, resident_mib=20) as residency:
            given = slots(world, residency, 30)
            for slot in given[:16]:
                await use(residency, slot)
            world.leaked_bytes = 4 * MIB
            for slot in given[16:]:
                await use(residency, slot)
                await asyncio.sleep(0.002)
                assert world.resident_set_bytes() <= 20 * MIB + MIB
            await residency.room.relieve()
            assert world.resident_set_bytes() <= 20 * MIB
            assert len(loaded(given)) >= 10

    run(work())


def test_loads_evict_nothing_in_place_of_what_is_being_closed(world: FakeWorld) -> None:
    async def work() -> None:
        async with open_residency(world, resident_mib=20) as residency:
            given = slots(world, residency, 24)
            for slot in given[:20]:
                await use(residency, slot)
            world.leaked_bytes = 6 * MIB
            await residency.room.relieve()
            assert len(loaded(given)) == 14
            world.leaked_bytes = 0
            await asyncio.gather(*(use(residency, slot) for slot in given[20:]))
            assert len(loaded(given)) == 14

    run(work())


@pytest.mark.parametrize("known", [True, False], ids=["known at start", "met later"])
def test_what_a_library_sets_up_once_is_no_models(world: FakeWorld, known: bool) -> None:
    world.set_up_bytes = 30 * MIB

    async def work() -> None:
        async with open_residency(world, resident_mib=20) as residency:
            given = slots(world, residency, 20) if known else []
            await residency.prepare()
            for slot in given or slots(world, residency, 20):
                await use(residency, slot)
            assert residency.resident_versions == 20
            assert residency.room.budget.process_bytes == 20 * MIB
            assert world.leaked_bytes == 30 * MIB, "once"

    run(work())


def test_what_a_library_sets_up_is_no_part_of_the_peak_of_the_load_that_met_it(
    world: FakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.set_up_bytes = 30 * MIB
    large = sized(served(1), 5 * MIB)

    async def work() -> None:
        async with open_residency(world, resident_mib=20) as residency:
            world.add(large, FakeSession(resident_bytes=5 * MIB))
            slot = residency.slot("m", large)
            for _ in range(2):
                await use(residency, slot)
                residency.evict(slot)
            assert slot.cost is not None
            assert slot.cost.at_peak[0] == 5 * MIB

    run(work())


def test_some_of_what_the_process_may_hold_is_no_versions(world: FakeWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serving.engine.residency.slack_bytes", slack_bytes)

    async def work() -> None:
        async with open_residency(world, resident_mib=100) as residency:
            given = slots(world, residency, 100)
            for slot in given:
                await use(residency, slot)
            assert residency.resident_bytes == residency.budget_bytes - 16 * MIB == 84 * MIB

    run(work())


def test_many_loads_at_once_keep_the_budget(world: FakeWorld) -> None:
    async def work() -> None:
        async with open_residency(world, resident_mib=8) as residency:
            given = slots(world, residency, 64)
            await asyncio.gather(*(use(residency, slot) for slot in given))
            assert world.most_open <= 8
            assert len(world.loads) == 64
            assert residency.room.budget.reserved[0] == 0
            assert residency.resident_bytes <= 8 * MIB

    run(work())


def test_what_is_loaded_while_memory_goes_back_takes_no_room_twice(
    world: FakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    large = sized(served(9), 5 * MIB)
    charged: list[int] = []

    async def work() -> None:
        async with open_residency(world, resident_mib=8) as residency:
            small, others = slots(world, residency, 4), list[asyncio.Task[None]]()
            world.add(large, FakeSession(resident_bytes=5 * MIB))
            slot = residency.slot("m", large)
            for one in (small[0], slot):
                await use(residency, one)  # now it is known what they cost
                residency.evict(one)
            await residency.room.relieve()
            budget, loader = residency.room.budget, residency._loader
            await until(lambda: not any(budget.held + budget.reserved))  # what was evicted is closed
            world.leaked_bytes = 4 * MIB

            async def give_back() -> None:
                world.leaked_bytes = 0
                world.may_check_out.clear()
                others.extend(asyncio.create_task(use(residency, one)) for one in small)
                await until(lambda: budget.reserved[0] == 4 * MIB)
                asyncio.get_running_loop().call_later(0.05, world.may_check_out.set)

            load = loader.load

            async def watched(*given: Any) -> Any:  # noqa: ANN401
                charged.append(budget.held[0] + budget.reserved[0])
                return await load(*given)

            monkeypatch.setattr(loader, "give_back", give_back)
            monkeypatch.setattr(loader, "load", watched)
            await use(residency, slot)
            await asyncio.gather(*others)

    run(work())
    assert len(charged) == 5
    assert max(charged) <= 8 * MIB
