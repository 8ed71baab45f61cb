"""The request log: what is read back from capture files, what is skipped, and the join with feedback."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from monitoring.request_log import Query, Window, labelled, read_window
from registry.errors import InputError
from registry.records.model import (
    ArtifactFormat,
    ArtifactRef,
    Datatype,
    PluginConfig,
    ServedVersion,
    Signature,
    TensorSpec,
)
from registry.records.release import Feedback
from serving.engine.capture import CapturedRequest, to_table

SIGNATURE = Signature(
    inputs=(TensorSpec(name="image", datatype=Datatype.FP32, shape=(None, 1, 2, 3)),),
    outputs=(TensorSpec(name="logits", datatype=Datatype.FP32, shape=(None, 4)),),
)


def capture(folder: Path, requests: Sequence[tuple[str, int]], *, at_ms: int, version: int = 1) -> Path:
    """Write requests (id, samples) as one capture file; every sample's values name its request's place and row."""
    rows = [(name, place, row) for place, (name, samples) in enumerate(requests) for row in range(samples)]
    table = pa.table(
        {
            "request_id": [name for name, _, _ in rows],
            "row": pa.array([row for _, _, row in rows], pa.int32()),
            "timestamp": pa.array([at_ms + place for _, place, _ in rows], pa.int64()),
            "version": pa.array([version] * len(rows), pa.int32()),
            "artifact": ["0" * 64] * len(rows),
            "input:image": pa.array(
                [[float(at_ms + place + row)] * 6 for _, place, row in rows], pa.list_(pa.float32())
            ),
            "output:logits": pa.array([[0.0, 1.0, 2.0, 3.0]] * len(rows), pa.list_(pa.float32())),
        }
    )
    (folder / "digits").mkdir(exist_ok=True)
    path = folder / "digits" / f"{at_ms + len(requests)}-1-0.parquet"
    pq.write_table(table.replace_schema_metadata({"burnish.signature": SIGNATURE.model_dump_json()}), path)
    return path


def test_samples_come_back_in_their_shapes_and_in_the_order_of_time(tmp_path: Path) -> None:
    capture(tmp_path, [("c", 1)], at_ms=2000)
    capture(tmp_path, [("a", 2), ("b", 1)], at_ms=1000)
    window = read_window(tmp_path, "digits")
    assert window.request_ids == ("a", "a", "b", "c")
    assert window.rows.tolist() == [0, 1, 0, 0]
    assert window.timestamps_ms.tolist() == [1000, 1000, 1001, 2000]
    assert (len(window), window.requests) == (4, 3)
    assert window.inputs["image"].shape == (4, 1, 2, 3)
    assert window.inputs["image"].dtype == np.float32
    assert window.inputs["image"][:, 0, 0, 0].tolist() == [1000, 1001, 1001, 2000]
    assert window.outputs["logits"].shape == (4, 4)


def test_the_limit_keeps_the_latest(tmp_path: Path) -> None:
    capture(tmp_path, [("old", 3)], at_ms=1000)
    capture(tmp_path, [("new", 3)], at_ms=2000)
    window = read_window(tmp_path, "digits", Query(limit=4))
    assert window.request_ids == ("old", "new", "new", "new")
    assert window.rows.tolist() == [2, 0, 1, 2]


def test_time_and_version_choose_samples(tmp_path: Path) -> None:
    capture(tmp_path, [("a", 1), ("b", 1)], at_ms=1000)
    capture(tmp_path, [("c", 1), ("d", 1)], at_ms=2000, version=2)
    assert read_window(tmp_path, "digits", Query(version=2)).request_ids == ("c", "d")
    assert read_window(tmp_path, "digits", Query(since_ms=1001, until_ms=2001)).request_ids == ("b", "c")


def test_broken_partial_and_foreign_files_are_left_out_and_named(tmp_path: Path) -> None:
    whole = capture(tmp_path, [("a", 1)], at_ms=1000)
    (tmp_path / "digits" / "3000-1-0.parquet").write_bytes(whole.read_bytes()[:-20])
    (tmp_path / "digits" / "4000-1-0.parquet").write_bytes(b"")
    pq.write_table(pa.table({"x": [1]}), tmp_path / "digits" / "5000-1-0.parquet")
    window = read_window(tmp_path, "digits")
    assert window.request_ids == ("a",)
    assert [reason.split(":")[0] for reason in window.skipped_files] == [
        "5000-1-0.parquet",
        "4000-1-0.parquet",
        "3000-1-0.parquet",
    ]


def test_no_captured_sample_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no captured request of 'digits'.*BURNISH_CAPTURE_RATE"):
        read_window(tmp_path, "digits")
    capture(tmp_path, [("a", 1)], at_ms=1000)
    with pytest.raises(InputError, match="no captured request"):
        read_window(tmp_path, "digits", Query(version=7))


def test_what_the_engine_writes_is_read_back(tmp_path: Path) -> None:
    served = ServedVersion(
        version=3,
        artifact=ArtifactRef(sha256="0" * 64, format=ArtifactFormat.ONNX, size_bytes=1),
        runtime=PluginConfig(name="onnxruntime"),
        signature=SIGNATURE,
        batch_invariant=True,
    )
    image = np.random.default_rng(0).random((2, 1, 2, 3), dtype=np.float32)
    logits = np.arange(8, dtype=np.float32).reshape(2, 4)
    request = CapturedRequest("digits", served, "a", 2, {"image": image}, {"logits": logits}, timestamp_ms=1000)
    (tmp_path / "digits").mkdir()
    pq.write_table(to_table([request]), tmp_path / "digits" / "1001-1-0.parquet")
    window = read_window(tmp_path, "digits")
    assert np.array_equal(window.inputs["image"], image)
    assert np.array_equal(window.outputs["logits"], logits)
    assert (window.request_ids, window.versions.tolist()) == (("a", "a"), [3, 3])


def varying(folder: Path, lengths: Sequence[int]) -> None:
    signature = Signature(
        inputs=(TensorSpec(name="tokens", datatype=Datatype.INT64, shape=(None, None)),),
        outputs=(TensorSpec(name="score", datatype=Datatype.FP32, shape=(None,)),),
    )
    count = len(lengths)
    table = pa.table(
        {
            "request_id": [f"r{place}" for place in range(count)],
            "row": pa.array([0] * count, pa.int32()),
            "timestamp": pa.array(range(count), pa.int64()),
            "version": pa.array([1] * count, pa.int32()),
            "artifact": ["0" * 64] * count,
            "input:tokens": pa.array([list(range(length)) for length in lengths], pa.list_(pa.int64())),
            "output:score": pa.array([[0.5]] * count, pa.list_(pa.float32())),
        }
    )
    (folder / "text").mkdir()
    pq.write_table(
        table.replace_schema_metadata({"burnish.signature": signature.model_dump_json()}),
        folder / "text" / "9-1-0.parquet",
    )


def test_samples_of_another_size_than_the_latest_are_counted(tmp_path: Path) -> None:
    varying(tmp_path, [5, 7, 5])
    window = read_window(tmp_path, "text")
    assert window.request_ids == ("r0", "r2")
    assert window.inputs["tokens"].shape == (2, 5)
    assert window.outputs["score"].shape == (2,)
    assert window.skipped_samples == 1


def feedback(request_id: str, *labels: float) -> Feedback:
    return Feedback(model="digits", request_id=request_id, labels=labels)


@pytest.fixture
def window(tmp_path: Path) -> Window:
    capture(tmp_path, [("a", 2), ("b", 1), ("c", 1)], at_ms=1000)
    return read_window(tmp_path, "digits")


def test_feedback_joins_by_request_and_row(window: Window) -> None:
    joined, labels = labelled(window, (feedback("c", 9), feedback("a", 3, 4), feedback("unknown", 1)))
    assert joined.request_ids == ("a", "a", "c")
    assert labels.tolist() == [3, 4, 9]
    assert labels.dtype == np.int64
    assert joined.inputs["image"][:, 0, 0, 0].tolist() == [1000, 1001, 1002]


def test_later_feedback_wins_and_fractions_stay_fractions(window: Window) -> None:
    _, labels = labelled(window, (feedback("b", 1), feedback("b", 2.5)))
    assert labels.tolist() == [2.5]


def test_a_window_without_feedback_is_an_input_error(window: Window) -> None:
    with pytest.raises(InputError, match="none of the 4 captured samples has feedback"):
        labelled(window, (feedback("unknown", 1),))
