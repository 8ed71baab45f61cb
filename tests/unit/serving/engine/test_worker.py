"""A worker: it serves what the catalog says, follows it, reports what it took, and writes everything at the end."""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from registry.errors import ModelNotFound
from serving.engine.catalog import Catalog, CatalogChange, write_entry
from serving.engine.worker import Worker
from serving.settings import EngineSettings
from tests.unit.serving.engine.doubles import MIB, WAIT_SECONDS, FakeSession, FakeWorld, entry, run, served, until

VERSIONS = [served(1), served(2)]


@asynccontextmanager
async def open_worker(world: FakeWorld, folder: Path) -> AsyncIterator[Worker]:
    settings = EngineSettings(
        catalog_folder=folder / "catalog",
        artifacts_folder=folder / "artifacts",
        capture_folder=folder / "capture",
        capture_rate=1,
    )
    worker = Worker(settings, world, 1)
    await worker.start()
    try:
        yield worker
    finally:
        await worker.stop()


def models_of(worker: Worker) -> dict[str, dict[str, Any]]:
    return dict(worker.model_statuses())


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> FakeWorld:
    world = FakeWorld().install(monkeypatch)
    for version in VERSIONS:
        world.add(version, FakeSession())
    return world


def test_a_promotion_and_a_broken_file_show_in_the_status(world: FakeWorld, tmp_path: Path) -> None:
    catalog = tmp_path / "catalog"
    write_entry(catalog, entry(1, {1: 100}, VERSIONS))

    async def work() -> None:
        async with open_worker(world, tmp_path) as worker:
            assert models_of(worker) == {"m": {"generation": 1, "champion": 1, "versions": [1, 2], "error": None}}
            assert (worker.status()["worker"], worker.status()["broken"]) == (1, {})
            write_entry(catalog, entry(2, {2: 100}, VERSIONS))
            await until(lambda: models_of(worker)["m"]["generation"] == 2)
            (catalog / "m.json").write_text("{")
            await until(lambda: "m" in worker.status()["broken"])
            assert models_of(worker)["m"]["champion"] == 2
            (catalog / "m.json").unlink()
            await until(lambda: models_of(worker) == {})

    run(work())


def test_a_version_that_cannot_be_loaded_shows_in_the_status(world: FakeWorld, tmp_path: Path) -> None:
    world.sessions[VERSIONS[1].artifact.sha256].broken = True
    write_entry(tmp_path / "catalog", entry(1, {1: 100}, VERSIONS))

    async def work() -> None:
        async with open_worker(world, tmp_path) as worker:
            write_entry(tmp_path / "catalog", entry(2, {2: 100}, VERSIONS))
            write_entry(tmp_path / "catalog", entry(1, {2: 100}, VERSIONS, "new"))
            await until(lambda: len(worker.live.refusals) == 2)
            models = models_of(worker)
            assert (models["m"]["generation"], models["m"]["champion"]) == (1, 1)
            assert "m version 2 cannot be loaded" in models["m"]["error"]
            assert (models["new"]["generation"], models["new"]["champion"], models["new"]["versions"]) == (0, None, [])
            assert "new version 2 cannot be loaded" in models["new"]["error"]

    run(work())


def test_stopping_unloads_and_writes_what_was_captured(world: FakeWorld, tmp_path: Path) -> None:
    write_entry(tmp_path / "catalog", entry(1, {1: 100}, VERSIONS))

    async def work() -> None:
        async with open_worker(world, tmp_path) as worker:
            slot = worker.engine.route("m", None, "unit")
            await worker.engine.infer(slot, "id", {"x": np.ones((1, 2), np.float32)})
        assert worker.status()["capture"] == {"written": 1, "dropped": 0}
        assert world.sessions[VERSIONS[0].artifact.sha256].closed

    run(work())


def test_one_models_status_and_what_is_resident_need_no_list_of_all(world: FakeWorld, tmp_path: Path) -> None:
    write_entry(tmp_path / "catalog", entry(1, {1: 100}, VERSIONS))

    async def work() -> None:
        async with open_worker(world, tmp_path) as worker:
            assert worker.model_status("m") == models_of(worker)["m"]
            with pytest.raises(ModelNotFound, match="there is no model other"):
                worker.model_status("other")
            slot = worker.engine.route("m", None, "unit")
            await worker.engine.infer(slot, "id", {"x": np.ones((1, 2), np.float32)})
            told = worker.resident()
            assert (told["versions"], told["loads"], told["evictions"]) == (1, 1, 0)
            assert told["bytes"] == told["process_bytes"] == MIB
            assert told["recycle_reason"] is None

    run(work())


async def blind(_: Catalog) -> AsyncIterator[CatalogChange]:
    """A watch that sees nothing."""
    await asyncio.Event().wait()
    yield CatalogChange()


def test_who_asks_for_a_model_needs_no_watch(world: FakeWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Catalog, "follow", blind)
    catalog = tmp_path / "catalog"
    write_entry(catalog, entry(1, {1: 100}, VERSIONS))

    async def work() -> None:
        async with open_worker(world, tmp_path) as worker:
            write_entry(catalog, entry(2, {2: 100}, VERSIONS))
            assert (await worker.look("m"))["generation"] == 1, "what it sends traffic to is loaded first"
            await worker.live.settled()
            assert (await worker.look("m"))["champion"] == 2
            (catalog / "m.json").unlink()
            await worker.look("m")
            await worker.live.settled()
            for name in ("m", "../m", "a\0b"):
                with pytest.raises(ModelNotFound, match="there is no model"):
                    await worker.look(name)

    run(work())


def test_what_was_read_later_is_served_though_it_is_heard_of_first(
    world: FakeWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Catalog, "follow", blind)
    catalog = tmp_path / "catalog"
    write_entry(catalog, entry(1, {1: 100}, VERSIONS))
    told = threading.Event()
    look = Catalog.look

    def late(one: Catalog, models: Iterable[str]) -> CatalogChange:
        change = look(one, models)
        if any(found.generation == 2 for found in change.entries):
            assert told.wait(WAIT_SECONDS)
        return change

    monkeypatch.setattr(Catalog, "look", late)

    async def work() -> None:
        async with open_worker(world, tmp_path) as worker:
            write_entry(catalog, entry(2, {2: 100}, VERSIONS))
            earlier = asyncio.create_task(worker.look("m"))
            await until(lambda: worker.catalog.entries["m"].generation == 2)
            write_entry(catalog, entry(3, {1: 100}, VERSIONS))
            await worker.look("m")
            told.set()
            await earlier
            await worker.live.settled()
            assert models_of(worker)["m"]["generation"] == 3

    run(work())


def test_what_was_used_is_loaded_by_the_next_worker_before_it_is_asked(world: FakeWorld, tmp_path: Path) -> None:
    write_entry(tmp_path / "catalog", entry(1, {1: 100}, VERSIONS))

    async def work() -> None:
        async with open_worker(world, tmp_path) as worker:
            slot = worker.engine.route("m", None, "unit")
            await worker.engine.infer(slot, "id", {"x": np.ones((1, 2), np.float32)})
        async with open_worker(world, tmp_path) as worker:
            assert worker.ready
            await until(lambda: worker.resident()["versions"] == 1)

    run(work())


def test_a_worker_that_cannot_follow_the_catalog_any_more_is_to_be_replaced(
    world: FakeWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_: Catalog) -> AsyncIterator[CatalogChange]:
        raise RuntimeError("no watch")

    monkeypatch.setattr(Catalog, "follow", broken)

    async def work() -> None:
        async with open_worker(world, tmp_path) as worker:
            await until(lambda: worker.recycle_reason is not None)
            assert worker.recycle_reason == "the task to follow the catalog has failed: RuntimeError('no watch')"

    run(work())


def test_answers_in_the_cache_are_memory_in_use_until_the_model_has_none(world: FakeWorld, tmp_path: Path) -> None:
    write_entry(tmp_path / "catalog", entry(1, {1: 100}, VERSIONS, cache_mib=1))

    async def work() -> None:
        async with open_worker(world, tmp_path) as worker:
            slot = worker.engine.route("m", None, "unit")
            await worker.engine.infer(slot, "id", {"x": np.ones((1, 2), np.float32)})
            assert worker.live.cached_bytes > 0
            write_entry(tmp_path / "catalog", entry(2, {1: 100}, VERSIONS))
            await until(lambda: models_of(worker)["m"]["generation"] == 2)
            assert worker.live.cached_bytes == 0

    run(work())
