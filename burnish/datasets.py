"""Evaluation and calibration sets as the caller has them, written as ``.npz`` files."""

import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from burnish.errors import InputError

LABEL = "label"
SLICE = "slice"
Array = npt.NDArray[np.generic]


def write_dataset(data: Any, input_names: Sequence[str], kind: str, folder: Path) -> Path:  # noqa: ANN401
    """Return the file of a set: the given path, or ``<kind>.npz`` in a folder, written from arrays.

    Args:
        data: a path; a dict of arrays by input name, with ``label`` where there are labels and ``slice`` where samples
            belong to named parts; a pair (inputs, labels); or one array, for a model with one input.
        input_names: the model's inputs, in order.
        kind: ``evaluation`` or ``calibration``.
        folder: where to write.

    Raises:
        InputError: the data do not fit the model's inputs.
    """
    if isinstance(data, str | Path):
        return Path(data)
    arrays = _by_name(data, input_names, kind)
    _check(arrays, input_names, kind)
    path = folder / f"{kind}.npz"
    with zipfile.ZipFile(path, "w") as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as stream:
                np.lib.format.write_array(stream, array, allow_pickle=False)
    return path


def _by_name(data: Any, input_names: Sequence[str], kind: str) -> dict[str, Array]:  # noqa: ANN401
    if isinstance(data, tuple):
        if len(data) != 2:
            raise InputError(f"{kind}: a tuple must be (inputs, labels), this one has {len(data)} parts")
        inputs, labels = data
        return _by_name(inputs, input_names, kind) | {LABEL: _array(labels, LABEL, kind)}
    if isinstance(data, Mapping):
        return {str(name): _array(value, str(name), kind) for name, value in data.items()}
    if len(input_names) != 1:
        names = ", ".join(input_names)
        raise InputError(f"{kind}: the model has the inputs {names}; give a dict of arrays by these names")
    return {input_names[0]: _array(data, input_names[0], kind)}


def _array(value: Any, name: str, kind: str) -> Array:  # noqa: ANN401
    """Make a NumPy array of an array, a tensor (by its own methods, so that torch is not needed here) or a list."""
    try:
        array = np.asarray(value.detach().cpu() if hasattr(value, "detach") else value)
    except (TypeError, ValueError) as error:
        raise InputError(f"{kind}: {name} is not an array: {error}") from error
    if array.dtype.kind not in ("biuUS" if name == SLICE else "biuf") or array.ndim == 0:
        raise InputError(f"{kind}: {name} must be an array of numbers with axis 0 the samples, not {array.dtype}")
    return array


def _check(arrays: Mapping[str, Array], input_names: Sequence[str], kind: str) -> None:
    given, wanted = arrays.keys() - ({LABEL, SLICE} - set(input_names)), set(input_names)
    if given != wanted:
        raise InputError(f"{kind}: has {sorted(given)}, but the model's inputs are {list(input_names)}")
    lengths = {name: len(array) for name, array in arrays.items()}
    if len(set(lengths.values())) != 1 or not next(iter(lengths.values())):
        raise InputError(f"{kind}: all arrays need the same number of samples, at least one; they have {lengths}")
