from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch

from burnish.datasets import write_dataset
from burnish.errors import InputError

X = np.arange(12, dtype=np.float32).reshape(4, 3)
Y = np.arange(4)


@pytest.mark.parametrize(
    ("data", "names", "expected"),
    [
        (X, ("x",), {"x": X}),
        ((X, Y), ("x",), {"x": X, "label": Y}),
        ((torch.from_numpy(X), torch.from_numpy(Y)), ("x",), {"x": X, "label": Y}),
        ((torch.from_numpy(X).requires_grad_(), [0, 1, 2, 3]), ("x",), {"x": X, "label": Y}),
        ({"a": X, "b": X, "label": Y}, ("a", "b"), {"a": X, "b": X, "label": Y}),
        ({"x": X, "slice": ["a", "a", "b", "c"]}, ("x",), {"x": X, "slice": ["a", "a", "b", "c"]}),
        (({"file": X, "allow_pickle": X}, Y), ("file", "allow_pickle"), {"file": X, "allow_pickle": X, "label": Y}),
    ],
)
def test_arrays_become_an_npz_by_input_name(
    tmp_path: Path, data: object, names: tuple[str, ...], expected: dict[str, npt.ArrayLike]
) -> None:
    path = write_dataset(data, names, "evaluation", tmp_path)
    assert path == tmp_path / "evaluation.npz"
    with np.load(path, allow_pickle=False) as found:
        assert set(found.files) == set(expected)
        for name, array in expected.items():
            np.testing.assert_array_equal(found[name], array)
            assert name in ("label", "slice") or found[name].dtype == np.float32


def test_a_path_is_taken_as_it_is(tmp_path: Path) -> None:
    assert write_dataset("set.parquet", ("x",), "evaluation", tmp_path) == Path("set.parquet")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("data", "names", "message"),
    [
        ({"y": X}, ("x",), r"has \['y'\], but the model's inputs are \['x'\]"),
        ({"label": Y}, ("x",), r"inputs are \['x'\]"),
        (X, ("a", "b"), "give a dict"),
        ((X, Y, Y), ("x",), "must be \\(inputs, labels\\)"),
        ((X, Y[:3]), ("x",), "same number of samples"),
        ((X[:0], Y[:0]), ("x",), "at least one"),
        (np.array([{}, {}]), ("x",), "numbers"),
        (np.array(["a"]), ("x",), "numbers"),
        ([[1, 2], [3]], ("x",), "not an array"),
        (torch.zeros(2, dtype=torch.bfloat16), ("x",), "x is not an array"),
        (None, ("x",), "numbers"),
    ],
)
def test_data_that_do_not_fit_are_refused(tmp_path: Path, data: object, names: tuple[str, ...], message: str) -> None:
    with pytest.raises(InputError, match=f"evaluation: .*{message}"):
        write_dataset(data, names, "evaluation", tmp_path)
