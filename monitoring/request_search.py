"""Find one captured request by its id among the files of the capture folder.

An id that the engine made begins with the time, so its file is known by name. Any other id is looked for in the newest
files first; a file whose least and greatest id do not enclose it costs no more than its footer.
"""

import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from monitoring.request_log import written_ms
from registry.records.tenant import DEFAULT_TENANT, split_name

MAX_FILES = 20_000
"""Files that are looked into at most."""

_MADE_BY_ENGINE = re.compile(r"[0-9a-f]{32}")
_TIME_DIGITS = 12
_WRITTEN_WITHIN_MS = 120_000
"""A request is written this long after its id was made, even if it waited for its run and the writer was behind."""
_CLOCKS_MS = 2_000
"""Hosts' clocks may differ by this much."""
_COLUMNS = ("request_id", "timestamp", "version", "artifact")


@dataclass(frozen=True)
class CapturedRequest:
    """What a capture file says of one request, besides its tensors."""

    model: str
    version: int
    artifact: str
    timestamp_ms: int
    samples: int
    file: Path


@dataclass(frozen=True)
class Search:
    """What a search found, and how far it looked."""

    found: CapturedRequest | None
    files: int
    """Files of captured requests that there are."""
    complete: bool
    """False: there are more files than are looked into, and the request may be in one of the older."""


def find_request(folder: Path, request_id: str, model: str | None = None, *, tenant: str = DEFAULT_TENANT) -> Search:
    """Look for a request, newest file first; of several requests with one id, the latest is found.

    Args:
        folder: the capture folder, which holds one folder a model.
        request_id: the request's id.
        model: look only at this model's requests.
        tenant: look only at this tenant's requests.
    """
    written = folder.glob("*/*.parquet") if model is None else (folder / model).glob("*.parquet")
    files = sorted((path for path in written if split_name(path.parent.name)[0] == tenant), key=written_ms)
    files.reverse()
    likely = [path for path in files if _may_hold(path, request_id)]
    for path in _in_turn(likely, files):
        try:
            found = _look(path, request_id)
        except (pa.ArrowException, OSError, KeyError):  # broken, removed meanwhile, or no file of captured requests
            continue
        if found is not None:
            return Search(found, len(files), complete=True)
    return Search(None, len(files), complete=len(files) <= MAX_FILES)


def _in_turn(likely: list[Path], files: list[Path]) -> Iterator[Path]:
    yield from likely
    known = set(likely)
    yield from (path for path in files[:MAX_FILES] if path not in known)


def _may_hold(path: Path, request_id: str) -> bool:
    if not _MADE_BY_ENGINE.fullmatch(request_id):
        return False
    made_ms = int(request_id[:_TIME_DIGITS], 16)
    return made_ms <= time.time_ns() // 1_000_000 + _CLOCKS_MS and (
        made_ms - _CLOCKS_MS <= written_ms(path) <= made_ms + _WRITTEN_WITHIN_MS
    )


def _look(path: Path, request_id: str) -> CapturedRequest | None:
    with pq.ParquetFile(path) as file:
        column = file.schema_arrow.names.index("request_id") if "request_id" in file.schema_arrow.names else None
        if column is None:
            return None
        for group in range(file.num_row_groups):
            statistics = file.metadata.row_group(group).column(column).statistics
            if statistics is not None and statistics.has_min_max and not statistics.min <= request_id <= statistics.max:
                continue
            table = file.read_row_group(group, columns=list(_COLUMNS))
            rows = table.filter(pc.equal(table["request_id"], request_id))
            if rows.num_rows:
                return CapturedRequest(
                    model=path.parent.name,
                    version=rows["version"][0].as_py(),
                    artifact=rows["artifact"][0].as_py(),
                    timestamp_ms=rows["timestamp"][0].as_py(),
                    samples=rows.num_rows,
                    file=path,
                )
    return None
