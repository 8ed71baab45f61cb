"""Evaluation and calibration sets: named input arrays, axis 0 the samples, with labels where there are labels.

An ``.npz`` file holds one array per input under the input's name, and may hold ``label`` and ``slice``. A
``.parquet`` file holds one row per sample: a column per input under the input's name (a number for a 1-D input, else
a list with the sample's values, flat in row-major order or nested as the sample is), and may hold ``label`` and
``slice``.
"""

import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from registry.errors import InputError
from registry.records.model import Signature, TensorSpec
from serving.runtime import Array, Arrays
from tasks.optimizer.dataset_files import read_npz, read_parquet

LABEL = "label"
SLICE = "slice"


@dataclass(frozen=True)
class Dataset:
    """Samples for evaluation or calibration; axis 0 of every array is the sample."""

    inputs: Arrays
    labels: Array | None = None
    """[samples] integers (classes), or floats of any shape [samples, ...] (regression targets)."""
    slices: Array | None = None
    """[samples] strings or integers that name the part of the data a sample belongs to."""

    def __len__(self) -> int:
        """The number of samples."""
        return len(next(iter(self.inputs.values())))

    def take(self, rows: npt.NDArray[np.integer] | slice) -> "Dataset":
        """Return the named samples, in the order given."""
        return Dataset(
            inputs={name: array[rows] for name, array in self.inputs.items()},
            labels=None if self.labels is None else self.labels[rows],
            slices=None if self.slices is None else self.slices[rows],
        )


def load_dataset(path: Path, signature: Signature) -> Dataset:
    """Read a dataset and fit it to a model's inputs.

    Raises:
        InputError: the file cannot be read, or an array has the wrong name, shape, type, length or values.
    """
    if not path.is_file():
        raise InputError(f"{path} is not a file; give an .npz or a .parquet file")
    suffix = path.suffix.lower()
    if suffix == ".npz":
        arrays = read_npz(path)
    elif suffix == ".parquet":
        arrays = read_parquet(path, {spec.name: spec.shape[1:] for spec in signature.inputs})
    else:
        raise InputError(f"{path} ends in {suffix or 'nothing'!r}; a dataset is an .npz or a .parquet file")
    return fit_dataset(arrays, signature, where=str(path))


def save_dataset(dataset: Dataset, path: Path) -> None:
    """Write a dataset as ``.npz``; the same samples always give the same bytes."""
    arrays = dict(dataset.inputs)
    if dataset.labels is not None:
        arrays[LABEL] = dataset.labels
    if dataset.slices is not None:
        arrays[SLICE] = dataset.slices
    with zipfile.ZipFile(path, "w") as archive:
        for name, array in arrays.items():
            # A ZipInfo made by hand carries a fixed date.
            with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as stream:
                np.lib.format.write_array(stream, np.ascontiguousarray(array), allow_pickle=False)


def fit_dataset(arrays: Arrays, signature: Signature, *, where: str) -> Dataset:
    """Check named arrays against a model's inputs and give them the model's types.

    Args:
        arrays: the inputs by name, and perhaps ``label`` and ``slice``.
        signature: the model's.
        where: the origin of the arrays, for messages.

    Raises:
        InputError: an array has the wrong name, shape, type, length or values.
    """
    names = [spec.name for spec in signature.inputs]
    _check_names(arrays, names, where)
    if any(array.ndim and not len(array) for array in arrays.values()):
        raise InputError(f"{where} holds no sample; expected at least one")
    inputs = {spec.name: _fit_input(arrays[spec.name], spec, where) for spec in signature.inputs}
    labels = _fit_labels(arrays[LABEL], where) if LABEL in arrays and LABEL not in names else None
    slices = _fit_slices(arrays[SLICE], where) if SLICE in arrays and SLICE not in names else None
    _check_lengths({**inputs, LABEL: labels, SLICE: slices}, where)
    _check_groups(inputs, signature, where)
    return Dataset(inputs=inputs, labels=labels, slices=slices)


def _check_names(arrays: Arrays, names: list[str], where: str) -> None:
    listed = ", ".join(names)
    missing = [name for name in names if name not in arrays]
    if missing:
        found = ", ".join(arrays) or "nothing"
        raise InputError(
            f"{where} lacks the input {missing[0]!r}: the model takes {listed}, the file holds {found}; "
            f"save one array per input under the input's name"
        )
    extra = [name for name in arrays if name not in {*names, LABEL, SLICE}]
    if extra:
        raise InputError(
            f"{where} holds {extra[0]!r}, which is no input of the model; it takes {listed}, and beside them a file "
            f"may hold {LABEL!r} and {SLICE!r}; rename or remove the array"
        )


def _fit_input(array: Array, spec: TensorSpec, where: str) -> Array:
    if not spec.shape:
        raise InputError(
            f"{where}: the model's input {spec.name!r} is a single number, so it has no axis for samples; export the "
            f"model with a batch axis"
        )
    expected = spec.shape[1:]
    found = array.shape[1:]
    fits = len(found) == len(expected) and all(
        size is None or size == have for size, have in zip(expected, found, strict=True)
    )
    if array.ndim == 0 or not fits:
        raise InputError(
            f"{where}: {spec.name!r} has the shape {_shape(array.shape)}, expected {_shape(('n', *expected))} with the "
            f"samples along axis 0; reshape the array"
        )
    return _convert(array, np.dtype(spec.datatype.numpy_name), f"{where}: {spec.name!r}")


def _fit_labels(array: Array, where: str) -> Array:
    if array.dtype.kind in "biu" and array.ndim == 1:
        return _convert(
            array.astype(np.int8) if array.dtype.kind == "b" else array, np.dtype(np.int64), f"{where}: {LABEL!r}"
        )
    if array.dtype.kind == "f" and array.ndim >= 1:
        _check_finite(array, f"{where}: {LABEL!r}")
        return np.ascontiguousarray(array)
    raise InputError(
        f"{where}: {LABEL!r} has the type {array.dtype} and the shape {_shape(array.shape)}, expected [n] integers "
        f"(classes) or [n, ...] floats (targets); convert or reshape it"
    )


def _fit_slices(array: Array, where: str) -> Array:
    if array.dtype.kind in "biuUS" and array.ndim == 1:
        return array
    raise InputError(
        f"{where}: {SLICE!r} has the type {array.dtype} and the shape {_shape(array.shape)}, expected [n] strings or "
        f"integers; convert or reshape it"
    )


def _convert(array: Array, wanted: np.dtype[np.generic], what: str) -> Array:
    """Convert where nothing but float precision can be lost: safe casts, integers that fit, floats that stay finite."""
    found = array.dtype
    both = {found.kind, wanted.kind}
    if not (np.can_cast(found, wanted, "safe") or both <= {"i", "u"} or both == {"f"}):
        raise InputError(f"{what} has the type {found}, expected {wanted}; convert it with .astype({str(wanted)!r})")
    _check_finite(array, what)
    with np.errstate(over="ignore"):
        converted = np.ascontiguousarray(array, dtype=wanted)
    lost = converted != array if both <= {"i", "u"} else ~np.isfinite(converted)
    if bool(np.any(lost)):
        first = array[tuple(np.argwhere(lost)[0])]
        raise InputError(f"{what} holds {first}, which {wanted} cannot hold; rescale the values")
    return converted


def _check_finite(array: Array, what: str) -> None:
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        bad = np.argwhere(~np.isfinite(array))[0]
        raise InputError(f"{what} holds {array[tuple(bad)]} in sample {bad[0]}; expected finite numbers: remove it")


def _check_lengths(arrays: dict[str, Array | None], where: str) -> None:
    lengths = {name: len(array) for name, array in arrays.items() if array is not None}
    if len(set(lengths.values())) > 1:
        listed = ", ".join(f"{name!r} {length}" for name, length in lengths.items())
        raise InputError(
            f"{where}: the arrays have unequal numbers of samples: {listed}; axis 0 of each must be the same samples"
        )


def _check_groups(inputs: Arrays, signature: Signature, where: str) -> None:
    """A model with a fixed axis 0 runs that many samples at a time, so they must divide evenly."""
    for spec in signature.inputs:
        size, found = spec.shape[0], len(inputs[spec.name])
        if size is not None and (size == 0 or found % size):
            raise InputError(
                f"{where}: {spec.name!r} holds {found} samples, but the model runs exactly {size} at a time; give a "
                f"multiple of {size} or export the model with a batch axis that varies"
            )


def _shape(sizes: tuple[object, ...]) -> str:
    return "[" + ", ".join("any" if size is None else str(size) for size in sizes) + "]"
