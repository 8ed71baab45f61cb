"""Retention: captured requests are kept for a time and within a size, the oldest file is removed first."""

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

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
    """Yield every file of captured requests and of pairs, and remove what dead workers left half-written."""
    unfinished = time.time() - _UNFINISHED_SECONDS
    for place, _, names in os.walk(folder):
        for position, name in enumerate(names):
            if position % _AT_ONCE == 0:
                time.sleep(_PAUSE_SECONDS)
            path = Path(place, name)
            try:
                stat = path.stat()
            except FileNotFoundError:
                continue
            if path.suffix == ".parquet":
                yield _File(stat.st_mtime, stat.st_size, path)
            elif path.suffix == ".tmp" and stat.st_mtime < unfinished:
                path.unlink(missing_ok=True)
