"""Parquet files that appear whole: ``<unix ms>-<pid>-<seq>.parquet``, written under another name and renamed."""

import os
import time
from itertools import count
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq


class ParquetFiles:
    """Numbers the files of one writer; used by one thread."""

    def __init__(self) -> None:
        """Begin with the first file."""
        self._numbers = count()

    def write(self, folder: Path, table: pa.Table) -> None:
        """Write a table to a new file of a folder, which is made if it is not there.

        Raises:
            OSError: it cannot be written.
            pa.ArrowException: the same, said by the library.
        """
        folder.mkdir(parents=True, exist_ok=True)
        name = f"{time.time_ns() // 1_000_000}-{os.getpid()}-{next(self._numbers)}.parquet"
        temporary = folder / f".{name}.tmp"
        try:
            pq.write_table(table, temporary)
            temporary.replace(folder / name)
        finally:
            temporary.unlink(missing_ok=True)
