"""Quotas of memory: a tenant makes room among its own, holds no more than it may, and others keep what they have."""

import asyncio
from pathlib import Path

import pytest

from registry.errors import TransientError
from serving.engine.catalog import Catalog
from serving.engine.residency import Residency
from serving.engine.slot import Slot
from serving.engine.tenant_shares import LIMITS_FILE, LimitsFile, write_limits
from tests.unit.serving.engine.doubles import MIB, FakeSession, FakeWorld, run, served
from tests.unit.serving.engine.test_residency import loaded, open_residency, use


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> FakeWorld:
    return FakeWorld().install(monkeypatch)


def slots(world: FakeWorld, residency: Residency, model: str, first: int, count: int, size: int = MIB) -> list[Slot]:
    versions = [served(number) for number in range(first, first + count)]
    for version in versions:
        world.add(version, FakeSession(resident_bytes=size))
    return [residency.slot(model, version) for version in versions]


def test_a_tenant_at_its_quota_makes_room_among_its_own(world: FakeWorld) -> None:
    async def work() -> None:
        async with open_residency(world) as residency:
            others = slots(world, residency, "m", 1, 3)
            own = slots(world, residency, "acme.m", 11, 5)
            residency.room.limit_tenants({"acme": 2 * MIB})
            for slot in (*others, *own):
                await use(residency, slot)
            assert loaded(own) == [14, 15], "the latest of its own, within its quota"
            assert loaded(others) == [1, 2, 3], "older, and untouched"
            assert residency.evictions == 3

    run(work())


def test_a_quota_that_falls_evicts_at_once_what_is_beyond(world: FakeWorld) -> None:
    async def work() -> None:
        async with open_residency(world) as residency:
            own, others = slots(world, residency, "acme.m", 11, 4), slots(world, residency, "m", 1, 2)
            for slot in (*others, *own):
                await use(residency, slot)
            await residency.hold(own[0])
            residency.room.limit_tenants({"acme": MIB, "beta": 0})
            assert loaded(own) == [11], "what a request holds stays"
            residency.room.limit_tenants({"acme": 0})
            assert loaded(own) == [11]
            residency.room.limit_tenants({})
            residency.release(own[0])
            await use(residency, own[1])
            assert (loaded(own), loaded(others)) == ([11, 12], [1, 2])

    run(work())


def test_loads_at_once_keep_the_quota(world: FakeWorld) -> None:
    held: list[int] = []

    async def work() -> None:
        async with open_residency(world) as residency:
            (known,) = slots(world, residency, "m", 1, 1)
            await use(residency, known)  # or one would be loaded after the other
            own = slots(world, residency, "acme.m", 11, 8)
            residency.room.limit_tenants({"acme": 2 * MIB})

            async def request(slot: Slot) -> None:
                await residency.hold(slot)
                held.append(residency.resident_bytes - MIB)
                await asyncio.sleep(0.01)
                residency.release(slot)

            await asyncio.gather(*map(request, own))
            assert loaded([known]) == [1]

    run(work())
    assert len(held) == 8
    assert max(held) <= 2 * MIB


def test_who_holds_more_than_it_may_makes_room_for_others_first(world: FakeWorld) -> None:
    async def work() -> None:
        async with open_residency(world, resident_mib=4) as residency:
            others, own = slots(world, residency, "m", 1, 3), slots(world, residency, "acme.m", 11, 2)
            for slot in (*others[:2], *own):
                await use(residency, slot)
            for slot in own:
                await residency.hold(slot)
            residency.room.limit_tenants({"acme": MIB})
            residency.release(own[1])
            await use(residency, others[2])
            assert (loaded(others), loaded(own)) == ([1, 2, 3], [11]), "though it was used last"
            residency.release(own[0])

    run(work())


def test_a_version_larger_than_the_quota_is_refused_and_says_so(world: FakeWorld) -> None:
    async def work() -> None:
        async with open_residency(world) as residency:
            (slot,) = slots(world, residency, "acme.m", 11, 1, 3 * MIB)
            await use(residency, slot)  # what it holds is known from now on
            residency.room.limit_tenants({"acme": 2 * MIB})
            assert loaded([slot]) == []
            with pytest.raises(
                TransientError, match=r"needs about 3\.0 MiB of memory, and its tenant may hold 2\.0 MiB"
            ):
                await use(residency, slot)

    run(work())


def test_the_file_of_quotas_is_read_when_it_is_another_and_is_no_models_entry(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = LimitsFile(tmp_path)
    assert file.look() is None
    write_limits(tmp_path, {"acme": 5, "beta": 0})
    assert [path.name for path in tmp_path.iterdir()] == [LIMITS_FILE]
    assert (file.look(), file.look()) == ({"acme": 5, "beta": 0}, None)
    assert not Catalog(tmp_path).scan().entries
    for broken in ('{"acme": -', '{"No Name": 1}', '{"acme": "many"}'):
        (tmp_path / "new").write_text(broken, encoding="utf-8")
        (tmp_path / "new").replace(tmp_path / LIMITS_FILE)
        assert file.look() is None
        assert "the tenants' quotas stay as they are" in caplog.text
        caplog.clear()
    write_limits(tmp_path, {})
    assert file.look() == {}
    (tmp_path / LIMITS_FILE).unlink()
    assert (file.look(), file.look()) == ({}, None)
