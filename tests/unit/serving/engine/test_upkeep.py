"""Upkeep: a worker that holds what no loaded model accounts for says so, and only then."""

from contextlib import closing
from pathlib import Path

import pytest

from serving.engine import upkeep
from serving.engine.infer import contain
from serving.engine.live import Live
from serving.engine.residency import Residency, ResidencyLimits
from serving.engine.runs import RunThreads
from serving.engine.upkeep import Upkeep
from serving.engine.usage import Usage
from tests.unit.serving.engine.doubles import MIB, FakeSession, FakeWorld, run, served


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> FakeWorld:
    world = FakeWorld().install(monkeypatch)
    for number in range(1, 6):
        world.add(served(number), FakeSession(resident_bytes=10 * MIB))
    return world


def reason(watch: Upkeep) -> str | None:
    return watch.recycle_reason


def test_only_a_leak_that_stays_asks_for_a_replacement(world: FakeWorld, tmp_path: Path) -> None:
    used = [0]

    async def work() -> None:
        with closing(RunThreads(1)) as runs:
            residency = Residency(world, ResidencyLimits(100, 10), contain, runs)
            watch = Upkeep(residency.room, Usage(tmp_path / "usage.json"), Live(residency), lambda: used[0], 20)
            for number in range(1, 6):
                slot = residency.slot("m", served(number))
                await residency.hold(slot)
                residency.release(slot)
            for _ in range(5):
                await watch.look()
            assert reason(watch) is None, "what is loaded is no leak"
            world.leaked_bytes = 25 * MIB
            await watch.look()
            world.leaked_bytes = 0
            await watch.look()
            world.leaked_bytes = 25 * MIB
            used[0] = 10 * MIB
            for _ in range(5):
                await watch.look()
            assert reason(watch) is None, "what requests and answers hold is no leak"
            used[0] = 0
            for _ in range(2):
                await watch.look()
                assert reason(watch) is None
            await watch.look()
            assert reason(watch) == "25 MiB are held that nothing accounts for; 20 are allowed"
            await residency.close()

    run(work())


def test_uses_are_kept_when_it_is_time(world: FakeWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def work() -> None:
        with closing(RunThreads(1)) as runs:
            residency = Residency(world, ResidencyLimits(100, 10), contain, runs)
            watch = Upkeep(residency.room, Usage(tmp_path / "usage.json"), Live(residency), lambda: 0, 20)
            await watch.look()
            assert not (tmp_path / "usage.json").exists()
            monkeypatch.setattr(upkeep, "KEEP_SECONDS", 0)
            await watch.look()
            assert (tmp_path / "usage.json").exists()
            await residency.close()

    run(work())


def test_what_a_request_held_when_a_quota_fell_goes_when_it_is_let_go(world: FakeWorld, tmp_path: Path) -> None:
    async def work() -> None:
        with closing(RunThreads(1)) as runs:
            residency = Residency(world, ResidencyLimits(100, 10), contain, runs)
            watch = Upkeep(residency.room, Usage(tmp_path / "usage.json"), Live(residency), lambda: 0, 20)
            slot = residency.slot("acme.m", served(1))
            await residency.hold(slot)
            residency.room.limit_tenants({"acme": MIB})
            await watch.look()
            assert residency.resident_versions == 1
            residency.release(slot)
            await watch.look()
            assert residency.resident_versions == 0
            await residency.close()

    run(work())
