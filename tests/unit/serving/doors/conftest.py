"""A worker over sessions in memory, which answer with their version times the input."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from serving.engine.catalog import write_entry
from serving.engine.worker import Worker
from serving.settings import EngineSettings
from tests.unit.serving.doors.rest_client import VERSIONS
from tests.unit.serving.engine.doubles import FakeSession, FakeWorld, entry


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> FakeWorld:
    world = FakeWorld().install(monkeypatch)
    for version in VERSIONS:
        world.add(version, FakeSession(scale=version.version))
    return world


@pytest.fixture
def worker(world: FakeWorld, tmp_path: Path) -> Iterator[Worker]:
    write_entry(tmp_path / "catalog", entry(1, {1: 100}, VERSIONS))
    write_entry(tmp_path / "catalog", entry(0, None, VERSIONS, "quiet"))
    engine = EngineSettings(
        catalog_folder=tmp_path / "catalog",
        artifacts_folder=tmp_path / "artifacts",
        capture_folder=tmp_path / "capture",
        capture_rate=0,
        max_waiting=1,
    )
    yield Worker(engine, world, 0)
