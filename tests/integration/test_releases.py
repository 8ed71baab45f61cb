"""Releases across ledger, catalog and mirrors: two at once, after a crash, and while MLflow is down."""

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from flows import releases
from flows.following import Following
from registry.errors import InputError, ModelNotFound, TransientError, VersionConflict
from registry.ledger.ledger import Ledger
from registry.records.change import Promote, RollBack
from registry.records.release import CatalogEntry
from registry.store.base import CHAMPION, ModelStore
from registry.store.location import ArtifactLocation
from registry.store.memory import MemoryStore
from registry.store.mlflow import MlflowStore
from serving.engine.catalog import read_entry, write_entry
from tests.drafts import change, draft, served
from tests.integration.processes import free_ports, wait_for
from tests.integration.promoting import promote_in_turn, promote_together

SPAWN = multiprocessing.get_context("spawn")


@pytest.fixture
def catalog(tmp_path: Path) -> Path:
    return tmp_path / "catalog"


@pytest.fixture
def ledger(ledger_url: str) -> Iterator[Ledger]:
    """A ledger with versions 1, 2 and 3 of digits, none of them live."""
    opened = Ledger(ledger_url)
    opened.migrate()
    for number in (1, 2, 3):
        opened.admit("digits", served(number))
    yield opened
    opened.close()


@pytest.fixture
def small_ledger(tmp_path: Path) -> Iterator[Ledger]:
    """An empty ledger on SQLite, for what does not depend on the database."""
    opened = Ledger(f"sqlite:///{tmp_path}/small.db")
    opened.migrate()
    yield opened
    opened.close()


def entry(catalog: Path) -> CatalogEntry:
    return read_entry(catalog / "digits.json")


def assert_agree(ledger: Ledger, catalog: Path) -> None:
    route, written = ledger.route("digits"), entry(catalog)
    assert route is not None
    assert (written.generation, written.split, written.versions) == (
        route.generation,
        route.split,
        ledger.served("digits"),
    )


def repaired(ledger: Ledger, store: ModelStore, catalog: Path) -> tuple[str, ...]:
    return tuple(Following(ledger, store, catalog).repair())


def test_promotions_and_rollbacks_reach_the_catalog(ledger: Ledger, catalog: Path) -> None:
    releases.publish(ledger, catalog, "digits")
    assert (entry(catalog).generation, entry(catalog).split) == (0, None)
    assert [served.version for served in entry(catalog).versions] == [1, 2, 3]
    releases.change_route(ledger, catalog, change(Promote(version=1), reason="first"))
    route = releases.change_route(ledger, catalog, change(Promote(version=2), reason="faster", expected_generation=1))
    assert (route.generation, entry(catalog).split) == (2, route.split)
    route = releases.change_route(
        ledger, catalog, change(RollBack(), actor="ben", reason="slow", expected_generation=2)
    )
    assert (route.champion, route.generation) == (1, 3)
    assert_agree(ledger, catalog)


def test_a_refused_release_leaves_the_catalog_as_it_is(ledger: Ledger, catalog: Path) -> None:
    releases.change_route(ledger, catalog, change(Promote(version=1), reason="first"))
    before = (catalog / "digits.json").stat().st_mtime_ns
    with pytest.raises(VersionConflict):
        releases.change_route(ledger, catalog, change(Promote(version=2), expected_generation=0))
    with pytest.raises(InputError, match="already live"):
        releases.change_route(ledger, catalog, change(Promote(version=1)))
    with pytest.raises(ModelNotFound):
        releases.change_route(ledger, catalog, change(Promote(version=4)))
    with pytest.raises(InputError, match="nothing to roll back to"):
        releases.change_route(ledger, catalog, change(RollBack()))
    assert not releases.publish(ledger, catalog, "digits")
    assert (catalog / "digits.json").stat().st_mtime_ns == before


def test_two_processes_promoting_at_once_one_success_one_conflict(
    ledger: Ledger, ledger_url: str, catalog: Path
) -> None:
    releases.change_route(ledger, catalog, change(Promote(version=1), reason="first"))
    barrier, found = SPAWN.Barrier(2), SPAWN.Queue()
    processes = [
        SPAWN.Process(target=promote_together, args=(ledger_url, catalog, version, barrier, found))
        for version in (2, 3)
    ]
    for process in processes:
        process.start()
    assert sorted(found.get(timeout=180) for _ in processes) == ["conflict", "success"]
    for process in processes:
        process.join(180)
    assert len(ledger.history("digits")) == 2
    assert_agree(ledger, catalog)


def test_a_publisher_that_was_slow_does_not_undo_a_newer_generation(
    ledger: Ledger, catalog: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    second = threading.Thread(
        target=releases.change_route, args=(ledger, catalog, change(Promote(version=2), actor="ben"))
    )

    def write_late(folder: Path, written: CatalogEntry) -> None:
        if written.generation == 1:  # read from the ledger already; now another promotion comes in between
            second.start()
            second.join(0.5)
        write_entry(folder, written)

    monkeypatch.setattr(releases, "write_entry", write_late)
    releases.change_route(ledger, catalog, change(Promote(version=1)))
    second.join(30)
    assert entry(catalog).generation == 2
    assert_agree(ledger, catalog)


def test_readers_see_generations_in_order_while_processes_promote(
    ledger: Ledger, ledger_url: str, catalog: Path
) -> None:
    ledger.admit("digits", served(4))
    releases.publish(ledger, catalog, "digits")
    processes = [
        SPAWN.Process(target=promote_in_turn, args=(ledger_url, catalog, pair, 6)) for pair in ((1, 2), (3, 4))
    ]
    for process in processes:
        process.start()
    seen = [0]
    while any(process.is_alive() for process in processes):
        seen.append(entry(catalog).generation)
        time.sleep(0.001)
    assert [process.exitcode for process in processes] == [0, 0]
    assert seen == sorted(seen)
    assert entry(catalog).generation == 24
    assert_agree(ledger, catalog)


def test_a_process_killed_while_it_releases_leaves_what_reconcile_repairs(
    ledger: Ledger, ledger_url: str, catalog: Path
) -> None:
    process = SPAWN.Process(target=promote_in_turn, args=(ledger_url, catalog, (1, 2), 100_000))
    process.start()
    wait_for(lambda: len(ledger.history("digits")) > 5, "some promotions", 180)
    os.kill(process.pid or 0, signal.SIGKILL)
    process.join(180)
    repaired(ledger, MemoryStore(), catalog)
    assert_agree(ledger, catalog)
    generations = [event.generation for event in ledger.history("digits")]
    assert generations == list(range(1, len(generations) + 1))
    releases.change_route(ledger, catalog, change(Promote(version=3), reason="after the crash"))
    assert_agree(ledger, catalog)


def test_reconcile_repairs_catalog_and_mirrors_from_the_ledger(small_ledger: Ledger, catalog: Path) -> None:
    store = MemoryStore()
    for each in ("one", "two"):
        small_ledger.admit("digits", store.register(draft("digits", each)).served)
    small_ledger.change_route(change(Promote(version=1), reason="the process died before the catalog"))
    assert repaired(small_ledger, store, catalog) == (
        "digits: the catalog was behind the ledger and was written again",
        "digits: the alias champion was behind the ledger and was set to the live version",
        "digits: version 2 is registered but was never released (live: version 1)",
    )
    assert store.alias("digits", CHAMPION) == 1
    assert_agree(small_ledger, catalog)
    (catalog / "digits.json").write_text("{ half of a fi")
    releases.change_route(small_ledger, catalog, change(Promote(version=2)))
    (catalog / "digits.json").write_text("{ half of a fi")
    store.set_alias("digits", CHAMPION, None)
    assert len(repaired(small_ledger, store, catalog)) == 2
    assert repaired(small_ledger, store, catalog) == ()
    assert_agree(small_ledger, catalog)


def test_reconcile_admits_what_a_dead_process_left_registered(small_ledger: Ledger, catalog: Path) -> None:
    store = MemoryStore()
    version = store.register(draft("digits", "one"))
    assert repaired(small_ledger, store, catalog) == (
        "digits: version 1 was registered but not admitted; it is now",
        "digits: version 1 is registered but was never released (nothing is live)",
    )
    assert small_ledger.served("digits") == entry(catalog).versions == (version.served,)
    assert small_ledger.route("digits") is None


def test_reconcile_says_when_an_alias_cannot_follow(small_ledger: Ledger, catalog: Path) -> None:
    small_ledger.admit("digits", served(1))
    small_ledger.change_route(change(Promote(version=1)))
    notes = repaired(small_ledger, MemoryStore(), catalog)
    assert notes[-1].startswith("digits: the alias champion cannot follow the ledger: there is no version 1")


def test_releases_work_while_mlflow_is_down(small_ledger: Ledger, catalog: Path, tmp_path: Path) -> None:
    (port,) = free_ports(1)
    store = MlflowStore(f"http://127.0.0.1:{port}", ArtifactLocation(folder=tmp_path / "artifacts"))
    for number in (1, 2):
        small_ledger.admit("digits", served(number))
        releases.change_route(small_ledger, catalog, change(Promote(version=number)))
    releases.change_route(small_ledger, catalog, change(RollBack(), actor="ben", reason="slow"))
    assert_agree(small_ledger, catalog)
    with pytest.raises(TransientError):
        releases.mirror(small_ledger, store, "digits")
    (catalog / "digits.json").unlink()
    notes = repaired(small_ledger, store, catalog)
    assert [note.split(":")[0] for note in notes] == [
        "digits",
        "the model store cannot be looked at, its aliases follow later",
    ]
    assert_agree(small_ledger, catalog)


def test_the_aliases_follow_when_mlflow_is_back(
    small_ledger: Ledger, catalog: Path, mlflow_url: str, tmp_path: Path
) -> None:
    store = MlflowStore(mlflow_url, ArtifactLocation(folder=tmp_path / "artifacts"))
    for each in ("one", "two"):
        version = store.register(draft("released-elsewhere", each))
        small_ledger.admit(version.model, version.served)
        releases.change_route(small_ledger, catalog, change(Promote(version=version.version), model=version.model))
    assert releases.mirror(small_ledger, store, "released-elsewhere")
    assert store.alias("released-elsewhere", CHAMPION) == 2
    releases.change_route(
        small_ledger, catalog, change(RollBack(), model="released-elsewhere", actor="ben", reason="slow")
    )
    assert releases.mirror(small_ledger, store, "released-elsewhere")
    assert not releases.mirror(small_ledger, store, "released-elsewhere")
    assert store.alias("released-elsewhere", CHAMPION) == 1
