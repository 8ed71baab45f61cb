"""Read arrays from files that nobody vouches for: bounded in size, no pickles, every failure an ``InputError``."""

import zipfile
import zlib
from math import prod
from pathlib import Path
from typing import IO, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from registry.errors import InputError
from registry.uploads.limits import MAX_DATASET_BYTES
from serving.runtime import Array, Arrays

_MAX_VALUE_BYTES = 8
_NPY = ".npy"


def read_npz(path: Path) -> Arrays:
    """Read every array of an ``.npz`` file, by name.

    Raises:
        InputError: not an ``.npz`` file, damaged, too large, or it holds an array of Python objects.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            _check_members(members, path)
            return {member.filename.removesuffix(_NPY): _read_npy(archive, member, path) for member in members}
    except (zipfile.BadZipFile, zlib.error, ValueError, EOFError, OSError, RuntimeError) as error:
        raise InputError(f"{path} cannot be read as .npz: {error}; save it with numpy.savez") from error


def _check_members(members: list[zipfile.ZipInfo], path: Path) -> None:
    names = [member.filename for member in members]
    if len(set(names)) < len(names):
        raise InputError(f"{path} holds two arrays of one name; save it again with numpy.savez")
    for name in names:
        if not name.endswith(_NPY):
            raise InputError(f"{path} holds {name!r}, which is not an array; save it with numpy.savez")
    _check_bytes(sum(member.file_size for member in members), path)


def _check_bytes(declared: int, path: Path) -> None:
    if declared > MAX_DATASET_BYTES:
        raise InputError(
            f"{path} declares {declared / 2**30:.1f} GiB of values, more than the limit of "
            f"{MAX_DATASET_BYTES / 2**30:.0f} GiB; give fewer samples"
        )


def _read_npy(archive: zipfile.ZipFile, member: zipfile.ZipInfo, path: Path) -> Array:
    name = member.filename.removesuffix(_NPY)
    with archive.open(member) as stream:
        shape, dtype = _npy_header(stream)
        if dtype.hasobject:
            raise InputError(
                f"{path}: {name!r} is an array of Python objects, expected numbers; objects are never unpickled: "
                f"convert it with .astype and save it again"
            )
        # NumPy allocates what the header says before it reads a byte: hold the header to the member's size.
        if prod(shape) * dtype.itemsize > member.file_size:
            raise InputError(f"{path}: {name!r} is cut short: its header declares the shape {list(shape)} of {dtype}")
    with archive.open(member) as stream:
        array: Array = np.lib.format.read_array(stream, allow_pickle=False)
        return array


def _npy_header(stream: IO[bytes]) -> tuple[tuple[int, ...], np.dtype[Any]]:
    version = np.lib.format.read_magic(stream)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(stream)
    return shape, dtype


def read_parquet(path: Path, shapes: dict[str, tuple[int | None, ...]]) -> Arrays:
    """Read every column of a Parquet file as an array, one row a sample.

    Args:
        path: the file.
        shapes: the shape of one sample, by input; lists of these columns are reshaped to it.

    Raises:
        InputError: not a Parquet file, damaged, too large, or a column holds nulls, rows of unequal length or neither
            numbers nor lists of numbers.
    """
    try:
        with pq.ParquetFile(path) as file:
            _check_bytes(_declared_bytes(file.metadata), path)
            table = file.read()
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{path} cannot be read as Parquet: {error}; write it with pandas or pyarrow") from error
    if len(set(table.column_names)) < len(table.column_names):
        raise InputError(f"{path} holds two columns of one name; rename one")
    return {
        name: _column(table.column(name).combine_chunks(), shapes.get(name), f"{path}: {name!r}")
        for name in table.column_names
    }


def _declared_bytes(metadata: Any) -> int:  # noqa: ANN401 - pyarrow ships no types
    values = sum(
        metadata.row_group(group).column(column).num_values
        for group in range(metadata.num_row_groups)
        for column in range(metadata.num_columns)
    )
    return int(values) * _MAX_VALUE_BYTES


def _column(column: Any, trailing: tuple[int | None, ...] | None, what: str) -> Array:  # noqa: ANN401
    sizes = [len(column)]
    while _is_list(column.type):
        _check_no_nulls(column, what)
        lengths = pc.unique(pc.list_value_length(column)).to_pylist()
        if len(lengths) > 1:
            raise InputError(
                f"{what} holds lists of unequal length ({min(lengths)} to {max(lengths)} values), expected every "
                f"sample to have the same shape; pad the samples"
            )
        sizes.append(lengths[0] if lengths else 0)
        column = pc.list_flatten(column)
    _check_no_nulls(column, what)
    values: Array = column.to_numpy(zero_copy_only=False)
    if values.dtype.hasobject:
        if not pa.types.is_string(column.type) and not pa.types.is_large_string(column.type):
            raise InputError(f"{what} has the type {column.type}, expected numbers or lists of numbers; convert it")
        values = values.astype(np.str_)
    return _reshape(values.reshape(sizes), trailing)


def _is_list(kind: Any) -> bool:  # noqa: ANN401
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


def _check_no_nulls(column: Any, what: str) -> None:  # noqa: ANN401
    if column.null_count:
        raise InputError(f"{what} holds {column.null_count} nulls, expected a value in every row; fill or drop them")


def _reshape(values: Array, trailing: tuple[int | None, ...] | None) -> Array:
    """Give flat lists the sample's shape where it is certain; where not, the shape check that follows tells."""
    if trailing is None or values.ndim != 2 or len(trailing) < 2 or trailing.count(None) > 1:
        return values
    known = prod(size for size in trailing if size is not None)
    certain = values.shape[1] == known if None not in trailing else known > 0 and values.shape[1] % known == 0
    if not certain:
        return values
    return values.reshape([len(values), *(-1 if size is None else size for size in trailing)])
