"""Pair log: what was compared, in Parquet files ``<capture folder>/<model>/shadow/<unix ms>-<pid>-<seq>.parquet``.

One row per request. Columns: ``request_id``, ``timestamp`` (unix ms), ``primary_version``, ``shadow_version``,
``rows`` (samples of the request), ``agreed``, ``primary_ms``, ``shadow_ms``, and for each output ``max_abs:<name>``,
``max_rel:<name>`` and ``agreement:<name>`` (null where its rows are not scores of classes).
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import pyarrow as pa

from serving.engine.comparison import PairedDifference
from serving.engine.parquet_files import ParquetFiles

PAIRS_FOLDER = "shadow"
"""Below the folder of the model's captured requests."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LoggedPair:
    """One pair and what made it."""

    model: str
    primary: int
    shadow: int
    difference: PairedDifference

    @property
    def made_by(self) -> tuple[str, int, int]:
        """Pairs of the same model and versions have the same columns."""
        return self.model, self.primary, self.shadow


class PairLog:
    """Writes pairs; used by one thread."""

    def __init__(self, capture_folder: Path) -> None:
        """Take the folder of captured requests; nothing is made yet."""
        self.written = 0
        """Pairs on disk."""
        self._folder = capture_folder
        self._files = ParquetFiles()

    def write(self, pairs: Sequence[LoggedPair]) -> None:
        """Write pairs to a new file for each two versions; what cannot be written is lost, and the log says so."""
        for _, group in groupby(sorted(pairs, key=_made_by), _made_by):
            batch = list(group)
            try:
                self._files.write(self._folder / batch[0].model / PAIRS_FOLDER, to_table(batch))
            except (OSError, pa.ArrowException) as error:
                _log.error("%d pairs of %s were lost: %s", len(batch), batch[0].model, error)
            else:
                self.written += len(batch)


def to_table(batch: Sequence[LoggedPair]) -> pa.Table:
    """Lay out pairs of the same two versions as a table."""
    pairs = [logged.difference for logged in batch]
    columns = {
        "request_id": pa.array([pair.request_id for pair in pairs], pa.string()),
        "timestamp": pa.array([pair.timestamp_ms for pair in pairs], pa.int64()),
        "primary_version": pa.array([logged.primary for logged in batch], pa.int32()),
        "shadow_version": pa.array([logged.shadow for logged in batch], pa.int32()),
        "rows": pa.array([pair.rows for pair in pairs], pa.int32()),
        "agreed": pa.array([pair.agreed for pair in pairs], pa.bool_()),
        "primary_ms": pa.array([pair.primary_ns / 1e6 for pair in pairs], pa.float64()),
        "shadow_ms": pa.array([pair.shadow_ns / 1e6 for pair in pairs], pa.float64()),
    }
    for position, output in enumerate(pairs[0].outputs):
        found = [pair.outputs[position] for pair in pairs]
        columns[f"max_abs:{output.name}"] = pa.array([one.max_abs for one in found], pa.float64())
        columns[f"max_rel:{output.name}"] = pa.array([one.max_rel for one in found], pa.float64())
        columns[f"agreement:{output.name}"] = pa.array([one.agreement for one in found], pa.float64())
    return pa.table(columns)


def _made_by(logged: LoggedPair) -> tuple[str, int, int]:
    return logged.made_by
