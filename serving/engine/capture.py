"""Capture: sampled requests with their answers, written to Parquet by a thread of its own.

One row per sample. Columns: ``request_id``, ``row`` (index within the request), ``timestamp`` (unix ms), ``version``,
``artifact`` (sha256), and for each tensor ``input:<name>`` or ``output:<name>``, a flat row-major list of that
sample's values, BF16 as FP32 and BYTES as binary. Where the signature is not batched, a request is one sample. The
schema's metadata holds the signature under ``burnish.signature``.
"""

import logging
import math
import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from registry.records.model import ServedVersion
from serving.engine.elements import held_bytes
from serving.engine.parquet_files import ParquetFiles
from serving.engine.retention import Retention, sweep
from serving.engine.traffic import sampled
from serving.runtime import Array, Arrays

FLUSH_SECONDS = 1.0
"""What was captured is on disk after this time."""
FLUSH_ROWS = 4096
"""... or as soon as this many rows wait."""
PENDING_BYTES = 64 * 2**20
"""What may wait to be written; beyond it requests are dropped and counted."""
OVERHEAD_BYTES = 1024
"""What a request costs besides its tensors."""
SWEEP_SECONDS = 60.0
"""How often files are removed that are too old or too many."""

SIGNATURE_KEY = "burnish.signature"

_BFLOAT16 = np.dtype("bfloat16")
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class CapturedRequest:
    """One answered request, as the engine hands it over."""

    model: str
    served: ServedVersion
    request_id: str
    rows: int
    inputs: Arrays
    outputs: Arrays
    timestamp_ms: int = field(default_factory=lambda: time.time_ns() // 1_000_000)

    @property
    def size_bytes(self) -> int:
        """Bytes that it holds while it waits."""
        tensors = sum(held_bytes(array) for arrays in (self.inputs, self.outputs) for array in arrays.values())
        return tensors + OVERHEAD_BYTES

    def owned(self) -> "CapturedRequest":
        """Return the same with tensors of its own: a view would keep a whole body, or a whole batch, in memory."""
        return replace(self, inputs=_own(self.inputs), outputs=_own(self.outputs))


class Capture:
    """Takes sampled requests without blocking; a thread writes them, newest dropped first under pressure."""

    def __init__(self, folder: Path, rate: float, keep: Retention) -> None:
        """Take where to write, the share of requests to sample, and how much is kept; the thread starts at once."""
        self.written = 0
        """Requests on disk."""
        self.dropped = 0
        """Sampled requests that were not written."""
        self.removed = 0
        """Files that were too old or too many."""
        self._folder = folder
        self._rate = rate
        self._keep = keep
        self._swept = -math.inf
        self._pending: deque[CapturedRequest] = deque()
        self._pending_bytes = 0
        self._pending_rows = 0
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._closed = False
        self._files = ParquetFiles()
        pa.array(np.zeros(1))  # PyArrow now imports pandas: for a third of a second nothing else would run
        self._thread = threading.Thread(target=self._work, name="capture", daemon=True)
        self._thread.start()

    @property
    def pending_bytes(self) -> int:
        """What waits to be written."""
        return self._pending_bytes

    @property
    def folder(self) -> Path:
        """Where captured requests are."""
        return self._folder

    @staticmethod
    def prepare() -> None:
        """Write a table into memory: the library takes what it keeps before the worker's memory is measured."""
        pq.write_table(pa.table({"prepared": pa.array([0.0])}), pa.BufferOutputStream())

    def wants(self, request_id: str) -> bool:
        """True if this request is among those sampled."""
        return sampled(request_id, self._rate)

    def offer(self, request: CapturedRequest) -> None:
        """Queue one request, or count it as dropped if too much waits."""
        size = request.size_bytes
        with self._lock:
            if self._closed or self._pending_bytes + size > PENDING_BYTES:
                self.dropped += 1
                return
            self._pending.append(request.owned())
            self._pending_bytes += size
            self._pending_rows += request.rows
            full = self._pending_rows >= FLUSH_ROWS
        if full:
            self._wake.set()

    def close(self) -> None:
        """Write what waits and end the thread."""
        with self._lock:
            self._closed = True
        self._wake.set()
        self._thread.join()

    def _work(self) -> None:
        closed = False
        while not closed:
            self._wake.wait(FLUSH_SECONDS)
            self._wake.clear()
            with self._lock:
                closed = self._closed
                requests, self._pending = self._pending, deque()
                self._pending_rows = 0
            self._write_all(requests)
            with self._lock:
                self._pending_bytes -= sum(request.size_bytes for request in requests)
            if time.monotonic() - self._swept >= SWEEP_SECONDS:
                self._sweep()

    def _sweep(self) -> None:
        self._swept = time.monotonic()
        try:
            self.removed += sweep(self._folder, self._keep)
        except OSError as error:
            _log.error("captured requests cannot be looked through, old ones stay: %s", error)

    def _write_all(self, requests: Sequence[CapturedRequest]) -> None:
        for _, group in groupby(sorted(requests, key=_made_by), _made_by):
            batch = list(group)
            try:
                self._files.write(self._folder / batch[0].model, to_table(batch))
            except (OSError, pa.ArrowException) as error:
                with self._lock:
                    self.dropped += len(batch)
                _log.error("%d captured requests of %s were lost: %s", len(batch), batch[0].model, error)
            else:
                self.written += len(batch)


def _own(arrays: Arrays) -> Arrays:
    return {name: array if array.flags.owndata else array.copy() for name, array in arrays.items()}


def _made_by(request: CapturedRequest) -> tuple[str, int, str]:
    return request.model, request.served.version, request.served.artifact.sha256


def to_table(batch: list[CapturedRequest]) -> pa.Table:
    """Lay out requests of one version as a table, one row per sample."""
    served = batch[0].served
    rows = [request.rows for request in batch]
    columns = {
        "request_id": pa.array(np.repeat(np.array([request.request_id for request in batch]), rows), pa.string()),
        "row": pa.array(np.concatenate([np.arange(size) for size in rows]), pa.int32()),
        "timestamp": pa.array(np.repeat([request.timestamp_ms for request in batch], rows), pa.int64()),
        "version": pa.array(np.full(sum(rows), served.version), pa.int32()),
        "artifact": pa.array([served.artifact.sha256] * sum(rows), pa.string()),
    }
    for spec in served.signature.inputs:
        columns[f"input:{spec.name}"] = _lists([request.inputs[spec.name] for request in batch], rows)
    for spec in served.signature.outputs:
        columns[f"output:{spec.name}"] = _lists([request.outputs[spec.name] for request in batch], rows)
    return pa.table(columns).replace_schema_metadata({SIGNATURE_KEY: served.signature.model_dump_json()})


def _lists(arrays: list[Array], rows: list[int]) -> pa.ListArray:
    """One flat list per sample from the tensors of several requests; their sample sizes may differ."""
    lengths = np.concatenate([np.full(size, array.size // size) for array, size in zip(arrays, rows, strict=True)])
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    values = np.concatenate([array.reshape(-1) for array in arrays])
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), _column(values))


def _column(values: Array) -> pa.Array:
    if values.dtype.hasobject:
        return pa.array(values, pa.binary())
    return pa.array(values.astype(np.float32) if values.dtype == _BFLOAT16 else values)
