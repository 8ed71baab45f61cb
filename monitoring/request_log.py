"""The request log: captured requests of one model, read from Parquet and joined with feedback.

The engine writes files ``<capture folder>/<model>/<unix ms>-<pid>-<seq>.parquet``, one row a sample: ``request_id``,
``row`` (index within the request), ``timestamp`` (unix ms), ``version``, ``artifact``, and one flat list column
``input:<name>`` or ``output:<name>`` a tensor; of BYTES nothing is read. The schema's metadata holds the signature
under ``burnish.signature``.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from registry.errors import InputError
from registry.records.model import Datatype, Signature, TensorSpec
from registry.records.release import Feedback

SIGNATURE_KEY = b"burnish.signature"
DEFAULT_LIMIT = 5000

Array = npt.NDArray[np.generic]
Arrays = dict[str, Array]


@dataclass(frozen=True)
class Query:
    """Which captured samples to read; every condition that is given must hold."""

    version: int | None = None
    """Only samples that this version answered."""
    since_ms: int | None = None
    """Only samples from this unix time on, in milliseconds."""
    until_ms: int | None = None
    """Only samples before this unix time, in milliseconds."""
    limit: int = DEFAULT_LIMIT
    """At most this many samples: the latest."""
    outputs_only: bool = False
    """Leave the inputs in the files: the window holds none."""


@dataclass(frozen=True)
class Window:
    """Captured samples in the order of their time; axis 0 of every array is the sample."""

    inputs: Arrays
    outputs: Arrays
    request_ids: tuple[str, ...]
    rows: npt.NDArray[np.int64]
    """The sample's index within its request."""
    timestamps_ms: npt.NDArray[np.int64]
    versions: npt.NDArray[np.int64]
    skipped_files: tuple[str, ...] = ()
    """Files that could not be read, each with the reason."""
    skipped_samples: int = 0
    """Samples of another shape or signature than the latest one; they cannot stand in the same arrays."""

    def __len__(self) -> int:
        """The number of samples."""
        return len(self.request_ids)

    @property
    def requests(self) -> int:
        """The number of different requests."""
        return len(set(self.request_ids))

    def take(self, index: npt.NDArray[np.int64]) -> "Window":
        """Return the samples at these places."""
        return Window(
            inputs={name: array[index] for name, array in self.inputs.items()},
            outputs={name: array[index] for name, array in self.outputs.items()},
            request_ids=tuple(self.request_ids[place] for place in index),
            rows=self.rows[index],
            timestamps_ms=self.timestamps_ms[index],
            versions=self.versions[index],
            skipped_files=self.skipped_files,
            skipped_samples=self.skipped_samples,
        )


def read_window(folder: Path, model: str, query: Query = Query()) -> Window:
    """Read the latest captured samples of a model that answer the query.

    A file that is broken or not a capture file is left out and named in the window; the rest is read.

    Args:
        folder: the capture folder, which holds one folder a model.
        model: the model's name.
        query: which samples.

    Raises:
        InputError: no readable sample answers the query.
    """
    pieces: list[_Piece] = []
    skipped: list[str] = []
    found = 0
    for path in sorted((folder / model).glob("*.parquet"), key=written_ms, reverse=True):
        if found >= query.limit or (query.since_ms is not None and written_ms(path) < query.since_ms):
            break
        try:
            piece = _read(path, query)
        except (pa.ArrowException, OSError, ValueError, KeyError) as error:
            skipped.append(f"{path.name}: {str(error).splitlines()[0]}")
            continue
        if piece.table.num_rows:
            pieces.append(piece)
            found += piece.table.num_rows
    if not pieces:
        unreadable = f" ({len(skipped)} files could not be read: {skipped[0]})" if skipped else ""
        raise InputError(
            f"no captured request of {model!r} answers the query{unreadable}; "
            f"send requests or raise BURNISH_CAPTURE_RATE"
        )
    return _window(pieces, query.limit, tuple(skipped))


def labelled(window: Window, feedback: Iterable[Feedback]) -> tuple[Window, Array]:
    """Join captured samples with their true answers by request and row; samples without one are left out.

    Later feedback on the same request wins. Labels that are all whole numbers come back as int64, else float64.

    Raises:
        InputError: no captured sample has feedback.
    """
    labels = {(one.request_id, row): label for one in feedback for row, label in enumerate(one.labels)}
    keys = list(zip(window.request_ids, window.rows.tolist(), strict=True))
    known = np.array([place for place, key in enumerate(keys) if key in labels], dtype=np.int64)
    if not len(known):
        raise InputError(
            f"none of the {len(window)} captured samples has feedback; send the true labels of these requests first"
        )
    values = np.array([labels[keys[place]] for place in known], dtype=np.float64)
    whole = bool((values == np.round(values)).all())
    return window.take(known), values.astype(np.int64) if whole else values


@dataclass(frozen=True)
class _Piece:
    table: pa.Table
    signature: Signature


def written_ms(path: Path) -> int:
    """A file is written after the requests in it, so it holds none that is later than its name."""
    stamp = path.name.split("-", 1)[0]
    return int(stamp) if stamp.isdigit() else 0


def _read(path: Path, query: Query) -> _Piece:
    metadata = pq.read_schema(path).metadata or {}
    if SIGNATURE_KEY not in metadata:
        raise ValueError("its schema holds no burnish.signature")
    signature = Signature.model_validate_json(metadata[SIGNATURE_KEY])
    if query.outputs_only:
        signature = signature.model_copy(update={"inputs": ()})
    table = pq.read_table(path, columns=["request_id", "row", "timestamp", "version", *_columns(signature)])
    keep = np.ones(table.num_rows, dtype=bool)
    if query.version is not None:
        keep &= table["version"].to_numpy() == query.version
    if query.since_ms is not None:
        keep &= table["timestamp"].to_numpy() >= query.since_ms
    if query.until_ms is not None:
        keep &= table["timestamp"].to_numpy() < query.until_ms
    return _Piece(table.filter(pa.array(keep)), signature)


def _columns(signature: Signature) -> list[str]:
    sides = (("input", signature.inputs), ("output", signature.outputs))
    return [f"{side}:{spec.name}" for side, specs in sides for spec in _numbers(specs)]


def _numbers(specs: Iterable[TensorSpec]) -> list[TensorSpec]:
    return [spec for spec in specs if spec.datatype is not Datatype.BYTES]


def _window(pieces: list[_Piece], limit: int, skipped: tuple[str, ...]) -> Window:
    latest = pieces[0].signature
    same = [piece.table for piece in pieces if piece.signature == latest]
    table = pa.concat_tables(same).sort_by(
        [("timestamp", "ascending"), ("request_id", "ascending"), ("row", "ascending")]
    )
    fits = _like_the_last(table, latest)
    other = sum(piece.table.num_rows for piece in pieces) - int(fits.sum())
    table = table.filter(pa.array(fits))
    table = table.slice(max(0, table.num_rows - limit))
    return Window(
        inputs={spec.name: _array(table[f"input:{spec.name}"], spec) for spec in _numbers(latest.inputs)},
        outputs={spec.name: _array(table[f"output:{spec.name}"], spec) for spec in _numbers(latest.outputs)},
        request_ids=tuple(table["request_id"].to_pylist()),
        rows=table["row"].to_numpy().astype(np.int64),
        timestamps_ms=table["timestamp"].to_numpy().astype(np.int64),
        versions=table["version"].to_numpy().astype(np.int64),
        skipped_files=skipped,
        skipped_samples=other,
    )


def _like_the_last(table: pa.Table, signature: Signature) -> npt.NDArray[np.bool_]:
    """Samples whose tensors have the sizes of the last sample's: varying axes may change from request to request."""
    fits = np.ones(table.num_rows, dtype=bool)
    for column in _columns(signature):
        sizes = pc.list_value_length(table[column]).to_numpy()
        fits &= sizes == sizes[-1]
    return fits


def _array(column: pa.ChunkedArray, spec: TensorSpec) -> Array:
    """Stack flat samples into [samples, ...]; one varying axis is worked out, more stay flat.

    A fixed axis 0 above 1 means that a request of the model is one sample, with that axis in it.
    """
    dtype = np.float32 if spec.datatype is Datatype.BF16 else spec.datatype.numpy_name
    values = column.combine_chunks().flatten().to_numpy(zero_copy_only=False).astype(dtype)
    sample = spec.shape[1:] if spec.shape[:1] in ((None,), (1,)) else spec.shape
    if sample.count(None) > 1:
        return values.reshape(len(column), -1)
    return values.reshape(len(column), *(-1 if size is None else size for size in sample))
