import io
import struct
import zipfile
from typing import Any

import numpy as np
import pytest

from registry.errors import InputError
from registry.uploads import npz
from registry.uploads.npz import check_npz
from tests.unit.registry.uploads.zips import opened, zipped


def saved(arrays: dict[str, Any], *, compressed: bool = False) -> bytes:
    buffer = io.BytesIO()
    (np.savez_compressed if compressed else np.savez)(buffer, **arrays)
    return buffer.getvalue()


def npy(header: str, data: bytes = b"", version: int = 1) -> bytes:
    text = header.encode()
    return b"\x93NUMPY" + bytes([version, 0]) + struct.pack("<H" if version == 1 else "<L", len(text)) + text + data


@pytest.mark.parametrize("compressed", [False, True])
def test_what_numpy_saves_is_taken(compressed: bool) -> None:
    arrays = {
        "x": np.random.default_rng(0).random((5, 3), np.float32),
        "fortran": np.asfortranarray(np.ones((4, 4))),
        "label": np.arange(5),
        "slice": np.array(["a", "bcd"]),
        "flags": np.zeros((5, 0), bool),
        "scalar": np.array(1, np.uint8),
    }
    check_npz(opened(saved(arrays, compressed=compressed)))


GOOD = "{'descr': '<f4', 'fortran_order': False, 'shape': (2,), }"


@pytest.mark.parametrize(
    ("member", "said"),
    [
        (npy(GOOD.replace("(2,)", "(1000000000, 1000000000)"), b"12345678"), "declares the shape"),
        (npy(GOOD.replace("(2,)", "(3,)"), b"12345678"), "declares the shape"),
        (npy(GOOD, b"123456789"), "declares the shape"),
        (npy(GOOD.replace("<f4", "|O"), b"12345678"), "array of Python objects"),
        (npy(GOOD.replace("'<f4'", "[('a', '<f4')]"), b"12345678"), "expected numbers or text"),
        (npy(GOOD.replace("<f4", "<M8[ns]"), b"12345678"), "expected numbers or text"),
        (npy(GOOD.replace("(2,)", "(-2,)"), b"12345678"), "which no array has"),
        (npy(GOOD.replace("(2,)", "2"), b"12345678"), "which no array has"),
        (npy(GOOD.replace("(2,)", "(True,)"), b"1234"), "which no array has"),
        (npy("{'descr': '<f4'}"), "cannot be read"),
        (npy("__import__('os')"), "cannot be read"),
        (npy("(" * 5000), "cannot be read"),
        (npy(GOOD + " " * 10_000, b"12345678"), "a header of 100"),
        (npy(GOOD, b"12345678", version=9), "is not an array"),
        (b"\x93NUMPY", "is not an array"),
        (b"\x80\x04cos\nsystem\n", "is not an array"),
        (b"", "is not an array"),
    ],
)
def test_arrays_that_declare_what_they_have_not_are_refused(member: bytes, said: str) -> None:
    check_npz(opened(zipped({"x.npy": npy(GOOD, b"12345678")})))
    for compression in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        with pytest.raises(InputError, match=said):
            check_npz(opened(zipped({"x.npy": member}, compression)))


def test_what_is_no_array_is_refused() -> None:
    for name in ("x.pkl", "a/x.npy"):
        with pytest.raises(InputError, match="which is not an array"):
            check_npz(opened(zipped({name: b""})))
    with pytest.raises(InputError, match="holds no array"):
        check_npz(opened(zipped({})))


def test_damage_behind_the_header_is_found() -> None:
    content = saved({"x": np.arange(1000)})
    with pytest.raises(InputError, match=r"'x\.npy' is damaged"):
        check_npz(opened(content[:500] + b"\xff" + content[501:]))


def test_a_set_beyond_the_bound_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(npz, "MAX_DATASET_BYTES", 5000)
    with pytest.raises(InputError, match="more than the limit of 5000"):
        check_npz(opened(saved({"x": np.arange(1000)})))
