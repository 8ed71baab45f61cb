"""Retention: captured requests are kept for a time and within a size, the oldest file is removed first."""

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from serving.engine.pair_log import PAIRS_FOLDER

_SECONDS_PER_DAY = 86_400
_MIB = 2**20
_AT_ONCE = 100
_PAUSE_SECONDS = 0.001
"""The thread that sweeps lets others have the interpreter after every hundred files."""
_UNFINISHED_SECONDS = 3600
"""A temporary file of this age belongs to a worker that died while it wrote."""


class Retention(NamedTuple):
    """How much of the capture folder is kept, of all models and workers together."""

    mib: int
    days: float


class _File(NamedTuple):
    written: float
    size: int
    path: Path


def sweep(folder: Path, keep: Retention) -> int:
    """Remove the files that are too old, then the oldest until the rest is small enough; return how many went.

    Several workers may sweep the same folder at once.
    """
    files = sorted(_files(folder))
    excess = sum(file.size for file in files) - keep.mib * _MIB
    oldest = time.time() - keep.days * _SECONDS_PER_DAY
    removed = 0
    for file in files:
        if excess <= 0 and file.written >= oldest:
            break
        try:
            file.path.unlink()
        except FileNotFoundError:  # another worker was quicker
            continue
        finally:
            excess -= file.size
        removed += 1
    return removed


def _files(folder: Path) -> Iterator[_File]:
    """Yield every captured file and every file of pairs, and remove what dead workers left half-written."""
    if not folder.is_dir():
        return
    unfinished = time.time() - _UNFINISHED_SECONDS
    for place in [path for path in (*folder.iterdir(), *folder.glob(f"*/{PAIRS_FOLDER}")) if path.is_dir()]:
        with os.scandir(place) as entries:
            for position, entry in enumerate(entries):
                if position % _AT_ONCE == 0:
                    time.sleep(_PAUSE_SECONDS)
                try:
                    stat = entry.stat(follow_symlinks=False)
                except FileNotFoundError:
                    continue
                if entry.name.endswith(".parquet"):
                    yield _File(stat.st_mtime, stat.st_size, Path(entry.path))
                elif entry.name.endswith(".tmp") and stat.st_mtime < unfinished:
                    Path(entry.path).unlink(missing_ok=True)
