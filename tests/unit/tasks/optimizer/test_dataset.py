"""Datasets: what is read, what is converted, and every way a file can be wrong."""

import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from registry.errors import InputError
from registry.records.model import Datatype, Signature, TensorSpec
from tasks.optimizer import dataset_files
from tasks.optimizer.dataset import Dataset, load_dataset, save_dataset


def signature(*specs: tuple[str, str, tuple[int | None, ...]]) -> Signature:
    inputs = tuple(TensorSpec(name=name, datatype=Datatype(kind), shape=shape) for name, kind, shape in specs)
    output = TensorSpec(name="scores", datatype=Datatype.FP32, shape=(None, 3))
    return Signature(inputs=inputs, outputs=(output,))


IMAGES = signature(("image", "FP32", (None, 1, 2, 2)))
ROW = np.arange(20, dtype=np.float32).reshape(5, 1, 2, 2)


def load(folder: Path, asked: Signature, arrays: dict[str, object]) -> Dataset:
    np.savez(folder / "set.npz", allow_pickle=True, **arrays)  # type: ignore[arg-type]
    return load_dataset(folder / "set.npz", asked)


def test_a_saved_dataset_loads_as_it_was(tmp_path: Path) -> None:
    saved = Dataset({"image": ROW}, np.arange(5), np.array(["a", "a", "b", "b", "b"]))
    save_dataset(saved, tmp_path / "set.npz")
    loaded = load_dataset(tmp_path / "set.npz", IMAGES)
    assert len(loaded) == 5
    assert np.array_equal(loaded.inputs["image"], ROW)
    assert loaded.labels is not None and loaded.labels.tolist() == [0, 1, 2, 3, 4]
    assert loaded.slices is not None and loaded.slices.tolist() == ["a", "a", "b", "b", "b"]


def test_saving_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("first.npz", "second.npz"):
        save_dataset(Dataset({"file": ROW}), tmp_path / name)
    assert (tmp_path / "first.npz").read_bytes() == (tmp_path / "second.npz").read_bytes()


def test_take_keeps_samples_together() -> None:
    taken = Dataset({"image": ROW}, np.arange(5), np.arange(5)).take(np.array([3, 1]))
    assert np.array_equal(taken.inputs["image"], ROW[[3, 1]])
    assert taken.labels is not None and taken.labels.tolist() == [3, 1]
    assert taken.slices is not None and taken.slices.tolist() == [3, 1]


@pytest.mark.parametrize(
    ("found", "wanted"),
    [
        ("float64", "FP32"),
        ("float32", "FP16"),
        ("int32", "INT64"),
        ("int64", "INT32"),
        ("uint8", "FP32"),
        ("bool", "INT8"),
    ],
)
def test_safe_types_are_converted(tmp_path: Path, found: str, wanted: str) -> None:
    values = np.array([[0, 1, 1], [1, 0, 1]], dtype=found)
    loaded = load(tmp_path, signature(("x", wanted, (None, 3))), {"x": values})
    assert loaded.inputs["x"].dtype == Datatype(wanted).numpy_name
    assert loaded.inputs["x"].tolist() == [[0, 1, 1], [1, 0, 1]]


@pytest.mark.parametrize(
    ("values", "wanted", "words"),
    [
        (np.ones((2, 3), np.float32), "INT64", "has the type float32, expected int64"),
        (np.ones((2, 3), np.int64), "FP32", "has the type int64, expected float32"),
        (np.ones((2, 3), np.int64), "BOOL", "has the type int64, expected bool"),
        (np.full((2, 3), 300, np.int64), "UINT8", "holds 300, which uint8 cannot hold"),
        (np.full((2, 3), -1, np.int64), "UINT64", "holds -1, which uint64 cannot hold"),
        (np.full((2, 3), 1e39, np.float64), "FP32", "holds 1e+39, which float32 cannot hold"),
        (np.array([["a", "b", "c"]]), "FP32", "has the type <U1, expected float32"),
    ],
)
def test_lossy_types_are_refused(tmp_path: Path, values: object, wanted: str, words: str) -> None:
    with pytest.raises(InputError) as refused:
        load(tmp_path, signature(("x", wanted, (None, 3))), {"x": values})
    assert words in str(refused.value) and "'x'" in str(refused.value)


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({}, "lacks the input 'image'"),
        ({"picture": ROW}, "the file holds picture"),
        ({"image": ROW, "mask": ROW}, "holds 'mask', which is no input"),
        ({"image": ROW[:, 0]}, "has the shape [5, 2, 2], expected [n, 1, 2, 2]"),
        ({"image": np.float32(1)}, "has the shape [], expected [n, 1, 2, 2]"),
        ({"image": ROW, "label": np.arange(4)}, "unequal numbers of samples: 'image' 5, 'label' 4"),
        ({"image": np.where(ROW == 9, np.nan, ROW)}, "holds nan in sample 2"),
        ({"image": np.where(ROW == 9, np.inf, ROW)}, "holds inf in sample 2"),
        ({"image": ROW[:0]}, "holds no sample"),
        ({"image": ROW, "label": np.eye(5, dtype=np.int64)}, "'label' has the type int64 and the shape [5, 5]"),
        ({"image": ROW, "label": np.array(list("abcde"))}, "'label' has the type <U1"),
        ({"image": ROW, "label": np.full(5, np.nan)}, "'label' holds nan"),
        ({"image": ROW, "slice": np.ones(5)}, "'slice' has the type float64"),
        ({"image": np.array([{}] * 5, dtype=object)}, "'image' is an array of Python objects"),
    ],
)
def test_wrong_arrays_are_named(tmp_path: Path, arrays: dict[str, object], words: str) -> None:
    with pytest.raises(InputError) as refused:
        load(tmp_path, IMAGES, arrays)
    assert words in str(refused.value)
    assert str(tmp_path / "set.npz") in str(refused.value)


def test_sizes_that_vary_take_any_size(tmp_path: Path) -> None:
    asked = signature(("tokens", "INT64", (None, None)), ("mask", "BOOL", (None, None)))
    loaded = load(tmp_path, asked, {"tokens": np.ones((4, 7), np.int32), "mask": np.ones((4, 7), bool)})
    assert loaded.inputs["tokens"].shape == (4, 7)


def test_a_model_without_an_axis_for_samples_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no axis for samples"):
        load(tmp_path, signature(("x", "FP32", ())), {"x": np.ones(3, np.float32)})


def test_a_fixed_batch_needs_a_multiple_of_it(tmp_path: Path) -> None:
    asked = signature(("x", "FP32", (2, 3)))
    assert len(load(tmp_path, asked, {"x": np.ones((4, 3), np.float32)})) == 4
    with pytest.raises(InputError, match="exactly 2 at a time"):
        load(tmp_path, asked, {"x": np.ones((5, 3), np.float32)})


def test_an_input_may_be_named_label(tmp_path: Path) -> None:
    loaded = load(tmp_path, signature(("label", "FP32", (None, 2))), {"label": np.ones((3, 2), np.float32)})
    assert loaded.labels is None and loaded.inputs["label"].shape == (3, 2)


@pytest.mark.parametrize("content", [b"", b"not a zip", b"PK\x03\x04 cut short"])
def test_a_file_that_is_no_archive_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "set.npz").write_bytes(content)
    with pytest.raises(InputError, match="cannot be read as"):
        load_dataset(tmp_path / "set.npz", IMAGES)


def test_a_damaged_member_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "set.npz", image=ROW)
    data = bytearray((tmp_path / "set.npz").read_bytes())
    data[200] ^= 0xFF
    (tmp_path / "set.npz").write_bytes(data)
    with pytest.raises(InputError, match=r"set\.npz"):
        load_dataset(tmp_path / "set.npz", IMAGES)


def test_a_header_that_declares_more_than_the_file_holds_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "set.npz", "w") as archive, archive.open("image.npy", "w") as stream:
        header = {"descr": "<f4", "fortran_order": False, "shape": (2**40, 1, 2, 2)}
        np.lib.format.write_array_header_1_0(stream, header)
    with pytest.raises(InputError, match="cut short"):
        load_dataset(tmp_path / "set.npz", IMAGES)


def test_a_decompression_bomb_is_refused_unread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.savez_compressed(tmp_path / "set.npz", image=np.zeros((1000, 1, 2, 2), np.float32))
    monkeypatch.setattr(dataset_files, "MAX_DATASET_BYTES", 10_000)
    monkeypatch.setattr(zipfile.ZipFile, "open", lambda *_: pytest.fail("a member was opened"))
    with pytest.raises(InputError, match="more than the limit"):
        load_dataset(tmp_path / "set.npz", IMAGES)


@pytest.mark.parametrize("name", ["image.txt", "../image"])
def test_a_member_that_is_no_array_is_refused(tmp_path: Path, name: str) -> None:
    with zipfile.ZipFile(tmp_path / "set.npz", "w") as archive:
        archive.writestr(name, "x")
    with pytest.raises(InputError, match="which is not an array"):
        load_dataset(tmp_path / "set.npz", IMAGES)


def test_unknown_and_missing_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is not a file"):
        load_dataset(tmp_path / "set.npz", IMAGES)
    (tmp_path / "set.csv").write_text("x")
    with pytest.raises(InputError, match=r"ends in '\.csv'"):
        load_dataset(tmp_path / "set.csv", IMAGES)


def test_parquet_rows_are_samples(tmp_path: Path) -> None:
    asked = signature(("image", "FP32", (None, 1, 2, 2)), ("age", "FP32", (None,)))
    frame = pd.DataFrame(
        {"image": [row.ravel() for row in ROW], "age": np.arange(5.0), "label": [0, 1, 2, 1, 0], "slice": list("aabbc")}
    )
    frame.to_parquet(tmp_path / "set.parquet")
    loaded = load_dataset(tmp_path / "set.parquet", asked)
    assert np.array_equal(loaded.inputs["image"], ROW)
    assert loaded.inputs["age"].tolist() == [0, 1, 2, 3, 4]
    assert loaded.labels is not None and loaded.labels.tolist() == [0, 1, 2, 1, 0]
    assert loaded.slices is not None and loaded.slices.tolist() == list("aabbc")


def test_parquet_lists_may_be_nested(tmp_path: Path) -> None:
    pd.DataFrame({"image": [row.tolist() for row in ROW]}).to_parquet(tmp_path / "set.parquet")
    assert np.array_equal(load_dataset(tmp_path / "set.parquet", IMAGES).inputs["image"], ROW)


def test_parquet_flat_lists_fill_one_size_that_varies(tmp_path: Path) -> None:
    pd.DataFrame({"x": [[1.0] * 6, [2.0] * 6]}).to_parquet(tmp_path / "set.parquet")
    loaded = load_dataset(tmp_path / "set.parquet", signature(("x", "FP32", (None, None, 2))))
    assert loaded.inputs["x"].shape == (2, 3, 2)


@pytest.mark.parametrize(
    ("column", "words"),
    [
        ([[1.0] * 4, [1.0] * 3], "lists of unequal length (3 to 4 values)"),
        ([[1.0] * 4, None], "holds 1 nulls"),
        ([[1.0, 1.0, 1.0, None], [1.0] * 4], "holds 1 nulls"),
        ([[1.0] * 3, [1.0] * 3], "has the shape [2, 3], expected [n, 1, 2, 2]"),
        ([{"a": 1}, {"a": 2}], "has the type struct"),
        (["a", "b"], "has the shape [2], expected"),
    ],
)
def test_wrong_parquet_columns_are_named(tmp_path: Path, column: list[object], words: str) -> None:
    pd.DataFrame({"image": column}).to_parquet(tmp_path / "set.parquet")
    with pytest.raises(InputError) as refused:
        load_dataset(tmp_path / "set.parquet", IMAGES)
    assert words in str(refused.value) and "'image'" in str(refused.value)


def test_a_file_that_is_no_parquet_is_refused(tmp_path: Path) -> None:
    (tmp_path / "set.parquet").write_bytes(b"PAR1 nothing PAR1")
    with pytest.raises(InputError, match="cannot be read as Parquet"):
        load_dataset(tmp_path / "set.parquet", IMAGES)
