"""Captured requests: the columns of the request log, nothing lost at rate 1, dropped and counted under pressure."""

import json
import os
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from registry.records.model import Datatype, ServedVersion, Signature, TensorSpec
from serving.engine import capture as module
from serving.engine.capture import OVERHEAD_BYTES, SIGNATURE_KEY, Capture, CapturedRequest
from serving.engine.retention import Retention
from tests.unit.serving.engine.doubles import BATCHED, VARYING, served

KEEP = Retention(mib=100, days=1)
UNBATCHED = Signature(
    inputs=(TensorSpec(name="x", datatype=Datatype.INT64, shape=(2, 2)),),
    outputs=(TensorSpec(name="y", datatype=Datatype.BOOL, shape=(1,)),),
)


def request(name: str, rows: int, version: ServedVersion, width: int = 2, model: str = "m") -> CapturedRequest:
    x = np.arange(rows * width, dtype=np.float32).reshape(rows, width)
    return CapturedRequest(model, version, name, rows, {"x": x}, {"y": -x}, timestamp_ms=1234)


def tables(folder: Path) -> list[pq.ParquetFile]:
    return [pq.read_table(path) for path in sorted(folder.glob("*.parquet"))]


def test_one_row_a_sample_with_the_columns_of_the_request_log(tmp_path: Path) -> None:
    capture = Capture(tmp_path, 1, KEEP)
    capture.offer(request("first", 2, served(3)))
    capture.offer(request("second", 1, served(3)))
    capture.close()
    (table,) = tables(tmp_path / "m")
    digest = served(3).artifact.sha256
    assert table.to_pylist() == [
        {
            "request_id": name,
            "row": row,
            "timestamp": 1234,
            "version": 3,
            "artifact": digest,
            "input:x": values,
            "output:y": [-value for value in values],
        }
        for name, row, values in [("first", 0, [0, 1]), ("first", 1, [2, 3]), ("second", 0, [0, 1])]
    ]
    types = {name: str(kind) for name, kind in zip(table.schema.names, table.schema.types, strict=True)}
    assert types["request_id"] == types["artifact"] == "string"
    assert (types["row"], types["version"], types["timestamp"]) == ("int32", "int32", "int64")
    assert types["input:x"].startswith("list<") and "float" in types["input:x"]
    assert Signature.model_validate(json.loads(table.schema.metadata[SIGNATURE_KEY.encode()])) == BATCHED
    assert (capture.written, capture.dropped) == (2, 0)


def test_samples_of_several_sizes_share_a_file(tmp_path: Path) -> None:
    capture = Capture(tmp_path, 1, KEEP)
    version = served(1, signature=VARYING)
    capture.offer(request("wide", 1, version, width=3))
    capture.offer(request("narrow", 2, version, width=1))
    capture.close()
    (table,) = tables(tmp_path / "m")
    assert table.column("input:x").to_pylist() == [[0, 1, 2], [0], [1]]


def test_without_a_batch_axis_a_request_is_one_sample(tmp_path: Path) -> None:
    capture = Capture(tmp_path, 1, KEEP)
    inputs = {"x": np.array([[1, 2], [3, 4]])}
    version = served(1, signature=UNBATCHED)
    capture.offer(CapturedRequest("m", version, "id", 1, inputs, {"y": np.array([True])}))
    capture.close()
    (table,) = tables(tmp_path / "m")
    assert table.column("input:x").to_pylist() == [[1, 2, 3, 4]]
    assert table.column("output:y").to_pylist() == [[True]]


def test_each_model_and_version_has_its_own_file(tmp_path: Path) -> None:
    capture = Capture(tmp_path, 1, KEEP)
    for model, version in (("a", 1), ("a", 2), ("b", 1), ("a", 1)):
        capture.offer(request(f"{model}{version}", 1, served(version), model=model))
    capture.close()
    assert sorted(table.num_rows for table in tables(tmp_path / "a")) == [1, 2]
    assert [table.num_rows for table in tables(tmp_path / "b")] == [1]
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and path.suffix != ".parquet"]


@pytest.mark.parametrize("numpy_name", ["float16", "float64", "uint8", "uint64", "int8"])
def test_every_kind_of_number_is_kept(tmp_path: Path, numpy_name: str) -> None:
    capture = Capture(tmp_path, 1, KEEP)
    x = np.array([[1, 2]], numpy_name)
    capture.offer(CapturedRequest("m", served(1), "id", 1, {"x": x}, {"y": x}))
    capture.close()
    (table,) = tables(tmp_path / "m")
    assert table.column("input:x").to_pylist() == [[1, 2]]


def test_text_and_bf16_are_kept_and_counted(tmp_path: Path) -> None:
    capture = Capture(tmp_path, 1, KEEP)
    x, y = np.array([[b"a", b"\xff" * 100]], object), np.array([[1.5, 2]], "bfloat16")
    asked = CapturedRequest("m", served(1), "id", 1, {"x": x}, {"y": y})
    assert asked.size_bytes > 101
    capture.offer(asked)
    capture.close()
    (table,) = tables(tmp_path / "m")
    assert table.column("input:x").to_pylist() == [[b"a", b"\xff" * 100]]
    assert table.column("output:y").to_pylist() == [[1.5, 2]]


def test_under_pressure_requests_are_dropped_and_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PENDING_BYTES", 2 * (OVERHEAD_BYTES + 16))
    capture = Capture(tmp_path, 1, KEEP)
    for name in ("first", "second", "third"):
        capture.offer(request(name, 1, served(1)))
    capture.close()
    capture.offer(request("late", 1, served(1)))
    assert (capture.written, capture.dropped) == (2, 2)
    (table,) = tables(tmp_path / "m")
    assert table.column("request_id").to_pylist() == ["first", "second"]


def test_a_disk_that_fails_costs_the_requests_and_nothing_more(tmp_path: Path) -> None:
    (tmp_path / "m").write_text("a file where the folder should be")
    capture = Capture(tmp_path, 1, KEEP)
    capture.offer(request("lost", 1, served(1)))
    capture.offer(request("kept", 1, served(1), model="n"))
    capture.close()
    assert (capture.written, capture.dropped) == (1, 1)


def test_what_is_offered_is_on_disk_soon_without_closing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FLUSH_ROWS", 5)
    monkeypatch.setattr(module, "FLUSH_SECONDS", 60)
    capture = Capture(tmp_path, 1, KEEP)
    capture.offer(request("many", 5, served(1)))
    for _ in range(1000):
        if capture.written:
            break
        capture._thread.join(0.01)
    assert capture.written == 1
    capture.close()


def test_a_request_that_waits_keeps_no_more_than_its_own_rows(tmp_path: Path) -> None:
    batch = np.zeros((1000, 2), np.float32)
    whole = CapturedRequest("m", served(1), "id", 1, {"x": batch[3:4]}, {"y": batch[3:4]})
    kept = whole.owned()
    assert all(array.base is None for array in (*kept.inputs.values(), *kept.outputs.values()))
    assert kept.inputs["x"].tolist() == [[0, 0]]
    assert kept.size_bytes == whole.size_bytes == OVERHEAD_BYTES + 16


def test_captures_of_before_are_removed_by_the_writer(tmp_path: Path) -> None:
    old = tmp_path / "m" / "1-1-1.parquet"
    old.parent.mkdir()
    old.write_bytes(b"")
    os.utime(old, (1, 1))
    capture = Capture(tmp_path, 1, KEEP)
    capture.offer(request("new", 1, served(1)))
    capture.close()
    assert (capture.removed, old.exists(), len(tables(tmp_path / "m"))) == (1, False, 1)
