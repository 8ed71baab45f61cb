"""The shadow: it computes its share of answered requests again, gives way to everything, and harms nobody."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
import pyarrow.dataset as ds
import pytest

from registry.records.model import ServedVersion
from registry.records.release import CatalogEntry, Shadow, TrafficSplit
from serving.engine import shadow
from serving.engine.catalog import write_entry
from serving.engine.traffic import choose, mirrored, sampled
from serving.engine.worker import Worker
from serving.runtime import Arrays
from serving.settings import EngineSettings
from tests.unit.serving.engine.doubles import BATCHED, MIB, VARYING, FakeSession, FakeWorld, run, served, until

ONE, TWO = served(1), served(2)
X: Arrays = {"x": np.array([[1, 2]], np.float32)}


def entry(generation: int, champion: int, of: Shadow | None, *versions: ServedVersion) -> CatalogEntry:
    split = TrafficSplit(weights={champion: 100})
    return CatalogEntry(model="m", generation=generation, split=split, versions=versions or (ONE, TWO), shadow=of)


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> FakeWorld:
    monkeypatch.setattr(shadow, "BUSY_PASS_SECONDS", 60.0)  # how busy this machine is, is not what is tested
    world = FakeWorld().install(monkeypatch)
    world.add(ONE, FakeSession())
    world.add(TWO, FakeSession(scale=2))
    return world


@asynccontextmanager
async def open_worker(
    world: FakeWorld, folder: Path, first: CatalogEntry, resident_mib: int = 64
) -> AsyncIterator[Worker]:
    write_entry(folder / "catalog", first)
    settings = EngineSettings(
        catalog_folder=folder / "catalog",
        artifacts_folder=folder / "artifacts",
        capture_folder=folder / "capture",
        capture_rate=0,
        resident_mib=resident_mib,
    )
    worker = Worker(settings, world, 0)
    await worker.start()
    try:
        yield worker
    finally:
        await worker.stop()


async def ask(worker: Worker, request_id: str = "id", version: int | None = None) -> int:
    slot = worker.engine.route("m", version, request_id)
    answer = await worker.engine.infer(slot, request_id, X)
    return answer.slot.served.version


def session(world: FakeWorld, version: ServedVersion) -> FakeSession:
    return world.sessions[version.artifact.sha256]


def test_answered_requests_are_computed_again_and_the_pairs_are_kept(world: FakeWorld, tmp_path: Path) -> None:
    async def work() -> None:
        async with open_worker(world, tmp_path, entry(1, 1, Shadow(version=2))) as worker:
            for number in range(3):
                assert await ask(worker, f"r{number}") == 1
                await worker.engine.shadow.idle()
            found = worker.status()["shadow"]
            assert (found["compared"], found["agreed"], found["shed"], found["failed"]) == (3, 3, 0, 0)
            (pairs,) = found["models"]["m"]
            assert (pairs["primary"], pairs["shadow"], pairs["compared"]) == (1, 2, 3)
            assert (pairs["outputs"]["y"]["max_abs"]["max"], pairs["outputs"]["y"]["max_rel"]["max"]) == (2.0, 1.0)
            assert len(session(world, TWO).shapes) == 3
        rows = (
            ds.dataset([str(path) for path in (tmp_path / "capture/m/shadow").glob("*.parquet")]).to_table().to_pylist()
        )
        assert sorted(row["request_id"] for row in rows) == ["r0", "r1", "r2"]
        assert {(row["primary_version"], row["shadow_version"], row["rows"], row["agreed"]) for row in rows} == {
            (1, 2, 1, True)
        }
        assert {(row["max_abs:y"], row["max_rel:y"], row["agreement:y"]) for row in rows} == {(2.0, 1.0, 1.0)}
        assert all(row["primary_ms"] > 0 and row["shadow_ms"] > 0 for row in rows)

    run(work())


def test_without_a_shadow_nothing_is_computed_twice(world: FakeWorld, tmp_path: Path) -> None:
    async def work() -> None:
        async with open_worker(world, tmp_path, entry(1, 1, None)) as worker:
            await ask(worker)
            await ask(worker, version=2)
            assert worker.status()["shadow"]["models"] == {}
            assert [len(session(world, version).shapes) for version in (ONE, TWO)] == [1, 1]

    run(work())


def test_requests_that_the_shadow_answered_itself_are_not_compared(world: FakeWorld, tmp_path: Path) -> None:
    async def work() -> None:
        async with open_worker(world, tmp_path, entry(1, 1, Shadow(version=2))) as worker:
            assert await ask(worker, version=2) == 2
            await worker.engine.shadow.idle()
            assert len(session(world, TWO).shapes) == 1

    run(work())


def test_the_share_is_kept_and_independent_of_split_and_capture() -> None:
    ids = [f"request-{number}" for number in range(20_000)]
    again = [name for name in ids if mirrored(name, 0.2)]
    assert abs(len(again) / 200 - 20) < 1.5
    assert abs(sum(sampled(name, 0.2) for name in again) / len(again) - 0.2) < 0.02
    split = TrafficSplit(weights={1: 70, 2: 30})
    assert abs(sum(choose(split, name) == 2 for name in again) / len(again) - 0.3) < 0.03
    assert all(mirrored(name, 1) for name in ids)


def test_it_gives_way_to_whatever_primary_waits(
    world: FakeWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("serving.engine.batcher.INLINE_SECONDS", 0.0)

    async def work() -> None:
        async with open_worker(world, tmp_path, entry(1, 1, Shadow(version=2))) as worker:
            await ask(worker)
            await worker.engine.shadow.idle()
            held = session(world, ONE)
            held.running.clear()
            held.may_run.clear()
            waiting = asyncio.create_task(ask(worker, "held"))
            await asyncio.to_thread(held.running.wait)
            answered = shadow.Answered(worker.engine.route("m", 1, "x"), "x", X, {"y": X["x"]}, 1)
            assert answered.slot.shadow is not None
            worker.engine.shadow.offer(answered.slot.shadow, answered)
            await worker.engine.shadow.idle()
            assert (worker.engine.shadow.shed, len(session(world, TWO).shapes)) == (1, 1)
            held.may_run.set()
            await waiting

    run(work())


def test_a_shadow_that_is_slow_sheds_in_bounded_memory_and_slows_no_primary(
    world: FakeWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("serving.engine.batcher.INLINE_SECONDS", 0.0)
    monkeypatch.setattr(shadow, "MAX_WAITING", 5)

    async def work() -> None:
        async with open_worker(world, tmp_path, entry(1, 1, Shadow(version=2))) as worker:
            held = session(world, TWO)
            held.may_run.clear()
            await ask(worker, "first")
            await until(held.running.is_set)
            for number in range(20):
                assert await ask(worker, f"r{number}") == 1
            assert len(session(world, ONE).shapes) == 21, "every primary was answered while the shadow hung"
            assert worker.engine.shadow.shed == 15
            held.may_run.set()
            await worker.engine.shadow.idle()
            assert worker.engine.shadow.compared == 6
            monkeypatch.setattr(shadow, "MAX_WAITING_BYTES", 8)
            await ask(worker)
            assert worker.engine.shadow.shed == 16

    run(work())


def test_a_busy_event_loop_sheds(world: FakeWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shadow, "BUSY_PASS_SECONDS", 0.0)

    async def work() -> None:
        async with open_worker(world, tmp_path, entry(1, 1, Shadow(version=2))) as worker:
            await ask(worker)
            await worker.engine.shadow.idle()
            assert (worker.engine.shadow.shed, worker.engine.shadow.compared) == (1, 0)

    run(work())


def test_a_shadow_that_fails_or_takes_other_inputs_fails_no_primary(world: FakeWorld, tmp_path: Path) -> None:
    other = served(3, signature=VARYING)
    world.add(other, FakeSession(signature=VARYING))

    async def work() -> None:
        async with open_worker(world, tmp_path, entry(1, 1, Shadow(version=2), ONE, TWO, other)) as worker:
            session(world, TWO).broken = True
            assert await ask(worker) == 1
            await worker.engine.shadow.idle()
            found = worker.status()["shadow"]
            assert (found["failed"], found["models"]["m"][0]["failed"]) == (1, 1)
            assert "m version 2 cannot be loaded" in found["models"]["m"][0]["error"]
            worker.live.adopt(entry(2, 1, Shadow(version=3), ONE, TWO, other))
            assert await ask(worker) == 1
            await worker.engine.shadow.idle()
            error = worker.status()["shadow"]["models"]["m"][0]["error"]
            assert error == "m version 3 takes other inputs than m version 1, so it cannot be its shadow"

    run(work())


def test_a_change_of_the_entry_starts_the_comparison_anew(world: FakeWorld, tmp_path: Path) -> None:
    async def work() -> None:
        async with open_worker(world, tmp_path, entry(1, 1, Shadow(version=2))) as worker:
            await ask(worker)
            await worker.engine.shadow.idle()
            worker.live.adopt(entry(1, 1, Shadow(version=2), ONE, TWO, served(3)))
            assert worker.status()["shadow"]["models"]["m"][0]["compared"] == 1, "the same generation goes on"
            worker.live.adopt(entry(2, 1, Shadow(version=2)))
            assert worker.status()["shadow"]["models"] == {}
            await ask(worker)
            await worker.engine.shadow.idle()
            assert worker.status()["shadow"]["models"]["m"][0]["compared"] == 1
            await ask(worker)
            worker.live.adopt(entry(3, 1, None))
            await worker.engine.shadow.idle()
            await ask(worker)
            await worker.engine.shadow.idle()
            assert worker.engine.shadow.compared == 2, "what waited when the shadow ended is dropped"

    run(work())


def test_it_is_loaded_on_first_use_and_the_first_to_make_room(world: FakeWorld, tmp_path: Path) -> None:
    third = served(3)
    world.add(third, FakeSession(signature=BATCHED, resident_bytes=MIB))

    async def work() -> None:
        async with open_worker(world, tmp_path, entry(1, 1, Shadow(version=2), ONE, TWO, third), 2) as worker:
            assert world.loads == []
            await ask(worker)
            await worker.engine.shadow.idle()
            assert world.loads == [ONE.artifact.sha256, TWO.artifact.sha256]
            await ask(worker, version=3)
            await until(lambda: session(world, TWO).closed)
            assert not session(world, ONE).closed, "used before the shadow, and yet it stays"
            await worker.engine.shadow.idle()
            await ask(worker)
            await worker.engine.shadow.idle()
            assert (worker.engine.shadow.compared, worker.engine.shadow.shed) == (1, 2), "no room, so not loaded"
            assert session(world, TWO).closed

    run(work())
