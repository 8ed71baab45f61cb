import os
from collections.abc import Callable
from pathlib import Path

import pytest

from registry.errors import CandidateError
from tasks.optimizer.cache import Cache


def _fill(text: str) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        (folder / "deep").mkdir()
        (folder / "deep" / "file").write_text(text)

    return write


def test_what_was_put_comes_back(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache")
    assert cache.get("a") is None
    cache.put("a", _fill("one"))
    found = Cache(tmp_path / "cache").get("a")
    assert found is not None
    assert (found / "deep" / "file").read_text() == "one"


def test_an_entry_with_changed_bytes_is_removed(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    cache.put("a", _fill("one"))
    found = cache.get("a")
    assert found is not None
    (found / "deep" / "file").write_text("two")
    assert cache.get("a") is None
    cache.put("a", _fill("three"))
    again = cache.get("a")
    assert again is not None
    assert (again / "deep" / "file").read_text() == "three"


def test_an_added_or_a_missing_file_is_seen(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    cache.put("a", _fill("one"))
    cache.put("b", _fill("one"))
    first, second = cache.get("a"), cache.get("b")
    assert first is not None
    assert second is not None
    (first / "more").write_text("x")
    (second / "deep" / "file").unlink()
    assert cache.get("a") is None
    assert cache.get("b") is None


def test_a_failed_fill_leaves_nothing(tmp_path: Path) -> None:
    cache = Cache(tmp_path)

    def fail(folder: Path) -> None:
        (folder / "half").write_text("x")
        raise CandidateError("no")

    with pytest.raises(CandidateError):
        cache.put("a", fail)
    assert cache.get("a") is None
    assert list(tmp_path.iterdir()) == []


def test_a_second_writer_keeps_the_first_entry(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    cache.put("a", _fill("one"))
    cache.put("a", _fill("two"))
    found = cache.get("a")
    assert found is not None
    assert (found / "deep" / "file").read_text() == "one"


def test_leftovers_of_dead_processes_go_and_those_of_living_ones_stay(tmp_path: Path) -> None:
    dead, living = tmp_path / ".partial-999999999-x", tmp_path / f".partial-{os.getpid()}-x"
    dead.mkdir()
    living.mkdir()
    Cache(tmp_path)
    assert not dead.exists()
    assert living.exists()
