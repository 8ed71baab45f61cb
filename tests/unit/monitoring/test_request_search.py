"""The search for one captured request: by time where its id tells it, else newest first, within a bound."""

import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from monitoring import request_search
from monitoring.request_search import find_request
from serving.doors.requests import new_request_id
from serving.engine.capture import Capture, CapturedRequest
from serving.engine.retention import Retention
from tests.unit.serving.engine.doubles import served

KEEP = Retention(mib=100, days=1)
RENAMED = "-1-1.parquet"


def capture(folder: Path, *names: str, model: str = "m", rows: int = 2, version: int = 3) -> None:
    x = np.zeros((rows, 2), np.float32)
    writer = Capture(folder, 1, KEEP)
    for name in names:
        writer.offer(CapturedRequest(model, served(version), name, rows, {"x": x}, {"y": x}, timestamp_ms=1234))
    writer.close()


def at(folder: Path, written_ms: int) -> None:
    """Let the one file that still has its own name be named as if it had been written at another time."""
    (path,) = (path for path in folder.glob("*/*.parquet") if not path.name.endswith(RENAMED))
    path.rename(path.with_name(f"{written_ms}{RENAMED}"))


@pytest.fixture
def looked_into(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that a search has opened, in order."""
    opened: list[str] = []
    real = pq.ParquetFile

    def opening(path: Path) -> object:
        opened.append(path.name)
        return real(path)

    monkeypatch.setattr("monitoring.request_search.pq.ParquetFile", opening)
    return opened


def test_a_request_is_found_with_what_answered_it(tmp_path: Path) -> None:
    capture(tmp_path, "first", "second", model="a")
    capture(tmp_path, "third", model="b", rows=1, version=4)
    found = find_request(tmp_path, "third").found
    assert found is not None
    assert (found.model, found.version, found.artifact) == ("b", 4, served(4).artifact.sha256)
    assert (found.samples, found.timestamp_ms, found.file.parent) == (1, 1234, tmp_path / "b")
    second = find_request(tmp_path, "second").found
    assert second is not None and second.samples == 2
    assert find_request(tmp_path, "third", "a").found is None


def test_an_id_of_the_engine_is_looked_for_where_its_time_is(tmp_path: Path, looked_into: list[str]) -> None:
    wanted = new_request_id()
    now = time.time_ns() // 1_000_000
    for age, name in ((90_000, "older"), (500_000, "much-older"), (0, wanted)):
        capture(tmp_path, name)
        at(tmp_path, now - age + 1000)
    capture(tmp_path, "newest")
    at(tmp_path, now + 130_000)
    assert find_request(tmp_path, wanted).found is not None
    assert looked_into == [f"{now + 1000}-1-1.parquet"]


def test_any_other_id_is_looked_for_in_the_newest_files_first(tmp_path: Path, looked_into: list[str]) -> None:
    for written, name in ((1000, "a"), (3000, "c"), (2000, "b")):
        capture(tmp_path, name)
        at(tmp_path, written)
    assert find_request(tmp_path, "b").found is not None
    assert looked_into == ["3000-1-1.parquet", "2000-1-1.parquet"]


def test_an_id_that_only_looks_like_one_of_the_engine_is_found_too(tmp_path: Path) -> None:
    capture(tmp_path, "f" * 32)
    assert find_request(tmp_path, "f" * 32).found is not None


def test_the_search_is_bounded_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(request_search, "MAX_FILES", 2)
    for written, name in ((1000, "a"), (2000, "b"), (3000, "c")):
        capture(tmp_path, name)
        at(tmp_path, written)
    assert find_request(tmp_path, "b").found is not None
    lost = find_request(tmp_path, "a")
    assert (lost.found, lost.files, lost.complete) == (None, 3, False)


def test_a_broken_file_and_one_of_another_kind_are_passed_over(tmp_path: Path) -> None:
    capture(tmp_path, "wanted")
    at(tmp_path, 1000)
    (tmp_path / "m" / "3000-1-1.parquet").write_bytes(b"broken")
    pq.write_table(
        pq.read_table(tmp_path / "m" / "1000-1-1.parquet", columns=["row"]), tmp_path / "m" / "2000-1-1.parquet"
    )
    assert find_request(tmp_path, "wanted").found is not None
    nothing = find_request(tmp_path, "nobody")
    assert (nothing.found, nothing.files, nothing.complete) == (None, 3, True)


def test_a_folder_that_is_not_there_holds_nothing(tmp_path: Path) -> None:
    assert find_request(tmp_path / "none", "any").files == 0
