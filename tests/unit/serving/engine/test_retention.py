"""Retention: the oldest captured files go first, by age and by size; nothing else is touched."""

import os
import time
from pathlib import Path

from serving.engine.retention import Retention, sweep

MIB = 2**20


def put(folder: Path, model: str, name: str, *, age: float, size: int = 0) -> Path:
    path = folder / model / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"\0" * size)
    os.utime(path, (time.time() - age, time.time() - age))
    return path


def test_files_that_are_too_old_go(tmp_path: Path) -> None:
    old = put(tmp_path, "a", "1.parquet", age=90_000)
    new = put(tmp_path, "b", "2.parquet", age=80_000)
    assert sweep(tmp_path, Retention(mib=1, days=1)) == 1
    assert (old.exists(), new.exists()) == (False, True)


def test_the_oldest_of_all_models_go_until_the_rest_is_small_enough(tmp_path: Path) -> None:
    files = [
        put(tmp_path, model, f"{age}.parquet", age=age, size=MIB // 2)
        for model, age in (("a", 50), ("a/shadow", 40), ("a", 30), ("b/shadow", 20))
    ]
    assert sweep(tmp_path, Retention(mib=1, days=1)) == 2
    assert [path.exists() for path in files] == [False, False, True, True]
    assert sweep(tmp_path, Retention(mib=1, days=1)) == 0


def test_what_a_dead_worker_left_half_written_goes_and_what_is_being_written_stays(tmp_path: Path) -> None:
    left = put(tmp_path, "a", ".1.parquet.tmp", age=4000)
    being = put(tmp_path, "a", ".2.parquet.tmp", age=10)
    other = put(tmp_path, "a", "notes.txt", age=1e7)
    assert sweep(tmp_path, Retention(mib=1, days=1)) == 0
    assert (left.exists(), being.exists(), other.exists()) == (False, True, True)


def test_a_folder_that_is_not_there_yet_is_empty(tmp_path: Path) -> None:
    assert sweep(tmp_path / "none", Retention(mib=1, days=1)) == 0
