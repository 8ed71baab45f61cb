"""The catalog: whole files only, the last good entry stays, generations never go back."""

import asyncio
import os
import threading
from collections.abc import AsyncIterator
from itertools import count
from pathlib import Path

import orjson
import pytest

from registry.errors import InputError
from registry.records.release import CatalogEntry
from serving.engine import catalog as catalog_module
from serving.engine.catalog import Catalog, CatalogChange, read_entry, write_entry
from tests.unit.serving.engine.doubles import WAIT_SECONDS, entry, run, served


def test_an_entry_is_read_as_it_was_written_and_nothing_else_is_left(tmp_path: Path) -> None:
    folder = tmp_path / "catalog"
    written = entry(3, {1: 90, 2: 10}, [served(1), served(2)])
    write_entry(folder, written)
    assert read_entry(folder / "m.json") == written
    assert [path.name for path in folder.iterdir()] == ["m.json"]


def test_a_failed_write_leaves_the_old_entry_and_no_rest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_entry(tmp_path, entry(1, None, []))

    def full_disk(descriptor: int) -> None:
        raise OSError(28, f"no space for {descriptor}")

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(OSError, match="no space"):
        write_entry(tmp_path, entry(2, None, []))
    assert read_entry(tmp_path / "m.json").generation == 1
    assert [path.name for path in tmp_path.iterdir()] == ["m.json"]


def test_readers_never_see_a_part(tmp_path: Path) -> None:
    write_entry(tmp_path, entry(0, None, []))
    versions = [served(number) for number in range(1, 20)]
    seen: set[int] = set()
    stop = threading.Event()

    def write() -> None:
        for generation in count(1):
            if stop.is_set() or (generation >= 60 and len(seen) > 1):
                break
            write_entry(tmp_path, entry(generation, {1: 100}, versions[: 1 + generation % 19]))

    writer = threading.Thread(target=write)
    writer.start()
    try:
        while writer.is_alive():
            seen.add(read_entry(tmp_path / "m.json").generation)
    finally:
        stop.set()
        writer.join()
    assert len(seen) > 1


@pytest.mark.parametrize("text", ["", "{", "[]", '{"model": "m"}', "\x00\xff"])
def test_what_is_not_an_entry_is_an_input_error(tmp_path: Path, text: str) -> None:
    (tmp_path / "m.json").write_text(text)
    with pytest.raises(InputError, match=r"m\.json cannot be read"):
        read_entry(tmp_path / "m.json")


def test_a_file_named_after_another_model_is_refused(tmp_path: Path) -> None:
    write_entry(tmp_path, entry(1, None, []))
    (tmp_path / "m.json").rename(tmp_path / "other.json")
    with pytest.raises(InputError, match="holds the model 'm'"):
        read_entry(tmp_path / "other.json")


def test_only_what_changed_is_reported(tmp_path: Path) -> None:
    catalog = Catalog(tmp_path)
    first = entry(1, {1: 100}, [served(1)])
    write_entry(tmp_path, first)
    (tmp_path / ".m-x.tmp").write_text("{")
    assert catalog.scan() == CatalogChange((first,))
    assert catalog.scan() == CatalogChange()
    write_entry(tmp_path, first)
    assert catalog.scan() == CatalogChange(), "the same content again is no change"
    more = entry(1, {1: 100}, [served(1), served(2)])
    write_entry(tmp_path, more)
    assert catalog.scan() == CatalogChange((more,)), "a new version without a new generation is a change"


def test_a_broken_file_keeps_the_last_good_entry_until_it_is_mended(tmp_path: Path) -> None:
    catalog = Catalog(tmp_path)
    good = entry(1, {1: 100}, [served(1)])
    write_entry(tmp_path, good)
    catalog.scan()
    (tmp_path / "m.json").write_text("{")
    assert catalog.scan() == CatalogChange()
    assert catalog.entries == {"m": good}
    assert "cannot be read" in catalog.broken["m"]
    mended = entry(2, {1: 100}, [served(1)])
    write_entry(tmp_path, mended)
    assert catalog.scan() == CatalogChange((mended,))
    assert catalog.broken == {}


def test_an_older_generation_is_refused_and_reported(tmp_path: Path) -> None:
    catalog = Catalog(tmp_path)
    newer = entry(5, {2: 100}, [served(1), served(2)])
    write_entry(tmp_path, newer)
    catalog.scan()
    write_entry(tmp_path, entry(4, {1: 100}, [served(1), served(2)]))
    assert catalog.scan() == CatalogChange()
    assert catalog.entries == {"m": newer}
    assert catalog.broken["m"] == "generation 4 is older than 5, which is kept"


def test_a_removed_file_takes_its_model_out_but_a_lost_folder_does_not(tmp_path: Path) -> None:
    folder = tmp_path / "catalog"
    catalog = Catalog(folder)
    write_entry(folder, entry(1, None, [], "a"))
    write_entry(folder, entry(1, None, [], "b"))
    catalog.scan()
    (folder / "a.json").unlink()
    assert catalog.scan() == CatalogChange((), ("a",))
    folder.rename(tmp_path / "away")
    assert catalog.scan() == CatalogChange()
    assert list(catalog.entries) == ["b"]
    assert "cannot be read" in catalog.broken[str(folder)]
    assert catalog.look(["b"]) == CatalogChange(), "nor where a release asks for it"
    assert list(catalog.entries) == ["b"]
    (tmp_path / "away").rename(folder)
    catalog.scan()
    assert catalog.broken == {}


def test_what_is_no_file_to_read_keeps_no_other_model_from_being_served(tmp_path: Path) -> None:
    catalog = Catalog(tmp_path)
    (tmp_path / "gone.json").symlink_to(tmp_path / "nowhere")
    (tmp_path / "folder.json").mkdir()
    os.mkfifo(tmp_path / "pipe.json")
    (tmp_path / os.fsdecode(b"\xff.json")).write_text("{}")
    good = entry(1, None, [])
    write_entry(tmp_path, good)
    assert catalog.scan() == CatalogChange((good,))
    assert sorted(catalog.broken) == ["\\udcff", "folder", "gone", "pipe"]
    assert all(f"{name}.json cannot be read" in said for name, said in catalog.broken.items())
    orjson.dumps(catalog.broken)
    write_entry(tmp_path / "elsewhere", entry(1, None, [], "gone"))
    (tmp_path / "elsewhere" / "gone.json").rename(tmp_path / "nowhere")
    (tmp_path / os.fsdecode(b"\xff.json")).unlink()
    assert [each.model for each in catalog.scan().entries] == ["gone"]
    assert sorted(catalog.broken) == ["folder", "pipe"]


def test_changes_are_followed(tmp_path: Path) -> None:
    async def work() -> None:
        catalog = Catalog(tmp_path)
        changes = catalog.follow()

        async def next_entries() -> tuple[CatalogEntry, ...]:
            async for change in changes:
                if change.entries:
                    return change.entries
            raise AssertionError

        for generation in (1, 2):
            written = entry(generation, None, [])
            waiting = asyncio.create_task(next_entries())
            await asyncio.sleep(0.05)
            write_entry(tmp_path, written)
            assert await asyncio.wait_for(waiting, WAIT_SECONDS) == (written,)

    run(work())


def test_what_changed_before_the_watch_began_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalog_module, "RESCAN_SHARE", 1e-9)
    monkeypatch.setattr(catalog_module, "RESCAN_SECONDS", 0.02)
    written = entry(1, None, [])

    async def work() -> None:
        catalog = Catalog(tmp_path)
        catalog.scan()
        write_entry(tmp_path, written)
        changes = catalog.follow()
        found = [(await anext(changes)).entries for _ in range(3)]
        assert (written,) in found

    run(work())


@pytest.mark.parametrize("ended", [RuntimeError("the watch is over"), ExceptionGroup("waiting", [OSError("gone")])])
def test_a_watch_that_ends_is_said_and_begun_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ended: Exception
) -> None:
    written = entry(1, None, [])
    said: list[str] = []
    watches = 0

    async def watch(folder: Path, **_: object) -> AsyncIterator[set[tuple[int, str]]]:
        nonlocal watches
        watches += 1
        if watches == 1:
            raise ended
        write_entry(folder, written)
        yield {(1, str(folder / "m.json"))}

    monkeypatch.setattr(catalog_module, "awatch", watch)
    monkeypatch.setattr(catalog_module, "RESCAN_SECONDS", 0.0)
    monkeypatch.setattr(catalog_module._log, "warning", lambda text, *values: said.append(text % values))

    async def work() -> None:
        changes = Catalog(tmp_path).follow()
        assert await anext(changes) == CatalogChange(), "read once without a watch"
        assert (await anext(changes)).entries == (written,)

    run(work())
    (line,) = said
    assert line.startswith(f"cannot watch {tmp_path}")


def test_a_look_reads_the_files_that_were_named_and_no_others(tmp_path: Path) -> None:
    catalog = Catalog(tmp_path)
    for model in ("a", "b", "c"):
        write_entry(tmp_path, entry(1, None, [], model))
    catalog.scan()
    newer = {model: entry(2, None, [], model) for model in ("a", "b")}
    for one in newer.values():
        write_entry(tmp_path, one)
    (tmp_path / "c.json").unlink()
    assert catalog.look({"a", "c", "unknown"}) == CatalogChange((newer["a"],), ("c",))
    assert catalog.entries["b"].generation == 1
    assert catalog.look({"a"}) == CatalogChange()
    assert catalog.scan() == CatalogChange((newer["b"],)), "a scan finds what no look was for"
