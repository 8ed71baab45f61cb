"""Parquet files: each under a name of its own, whole or not there."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from serving.engine.parquet_files import ParquetFiles

TABLE = pa.table({"x": [1, 2]})


def test_each_table_becomes_a_file_of_its_own(tmp_path: Path) -> None:
    files, folder = ParquetFiles(), tmp_path / "m" / "deep"
    for _ in range(3):
        files.write(folder, TABLE)
    found = list(folder.iterdir())
    assert len(found) == 3
    assert all(path.suffix == ".parquet" and pq.read_table(path) == TABLE for path in found)


def test_a_table_that_cannot_be_written_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: pa.Table, path: Path) -> None:
        path.write_bytes(b"half")
        raise OSError("no space")

    monkeypatch.setattr(pq, "write_table", broken)
    with pytest.raises(OSError, match="no space"):
        ParquetFiles().write(tmp_path, TABLE)
    assert list(tmp_path.iterdir()) == []
