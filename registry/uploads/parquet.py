"""Sets as Parquet: what footer and pages declare is within bounds and within the file, before anybody reads a value.

Source: apache/parquet-format, parquet.thrift (the field numbers), README (the file's layout).
"""

from typing import BinaryIO, TypeGuard

from registry.errors import InputError
from registry.uploads.compact_thrift import CompactReader, Struct
from registry.uploads.limits import MAX_DATASET_BYTES

_MAGIC, _ENCRYPTED_MAGIC = b"PAR1", b"PARE"
_TAIL_BYTES = 8
_MAX_FOOTER_BYTES = 16 * 2**20
_MAX_VALUE_BYTES = 8
_MAX_PAGES = 1_000_000
_ADVICE = "write it with pandas or pyarrow"

# FileMetaData, RowGroup, ColumnChunk, ColumnMetaData, PageHeader
_ROW_GROUPS = 4
_COLUMNS = 1
_FILE_PATH, _META_DATA, _CRYPTO = 1, 3, 8
_NUM_VALUES, _UNPACKED, _PACKED, _DATA_PAGE, _DICTIONARY_PAGE = 5, 6, 7, 9, 11
_PAGE_UNPACKED, _PAGE_PACKED = 2, 3


def check_parquet(stream: BinaryIO, size: int) -> None:
    """Check a set's footer and the header of every page.

    Raises:
        InputError: it is damaged, encrypted, in several files, or declares more than a set may hold.
    """
    footer = _footer(stream, size)
    values = unpacked = pages = 0
    for column in _columns(footer):
        values += _number(column, _NUM_VALUES)
        unpacked += _number(column, _UNPACKED)
        if max(values * _MAX_VALUE_BYTES, unpacked) > MAX_DATASET_BYTES:
            raise InputError(
                f"the set declares {values} values in {unpacked} bytes, more than the limit of {MAX_DATASET_BYTES} "
                "bytes; give fewer samples"
            )
        pages += _check_pages(stream, size, column, _MAX_PAGES - pages)


def _footer(stream: BinaryIO, size: int) -> Struct:
    stream.seek(0)
    head = stream.read(4)
    stream.seek(max(0, size - _TAIL_BYTES))
    tail = stream.read(_TAIL_BYTES)
    if _ENCRYPTED_MAGIC in (head, tail[4:]):
        raise InputError("the Parquet file is encrypted; write it without encryption")
    if size < 12 or head != _MAGIC or tail[4:] != _MAGIC:
        raise InputError(f"the file is not a whole Parquet file; {_ADVICE}")
    length = int.from_bytes(tail[:4], "little")
    if length > min(_MAX_FOOTER_BYTES, size - 12):
        raise InputError(
            f"the Parquet file declares a footer of {length} bytes; it has {size}, and the limit is {_MAX_FOOTER_BYTES}"
        )
    end = size - _TAIL_BYTES
    return CompactReader(stream, end - length, end).struct()


def _columns(footer: Struct) -> list[Struct]:
    found = []
    for group in _structs(footer.get(_ROW_GROUPS), "row groups"):
        for chunk in _structs(group.get(_COLUMNS), "columns"):
            column = chunk.get(_META_DATA)
            if chunk.get(_FILE_PATH) or _CRYPTO in chunk or not _is_struct(column):
                raise InputError(f"the Parquet file keeps a column in another file or encrypted; {_ADVICE} as one file")
            found.append(column)
    return found


def _check_pages(stream: BinaryIO, size: int, column: Struct, most: int) -> int:
    """Pages must fill their column's bytes, and unpack to no more than the column declares; return their number."""
    start, packed = _number(column, _DATA_PAGE), _number(column, _PACKED)
    if column.get(_DICTIONARY_PAGE):
        start = min(start, _number(column, _DICTIONARY_PAGE))
    end, unpacked = start + packed, 0
    if start < len(_MAGIC) or end > size - _TAIL_BYTES:
        raise InputError(f"the Parquet file places a column at bytes {start} to {end}; it has {size}")
    pages = 0
    while start < end:
        pages += 1
        if pages > most:
            raise InputError(f"the Parquet file has more than {_MAX_PAGES} pages; {_ADVICE}")
        reader = CompactReader(stream, start, end)
        page = reader.struct()
        unpacked += _number(page, _PAGE_UNPACKED)
        start = reader.position + _number(page, _PAGE_PACKED)
        if start > end or unpacked > _number(column, _UNPACKED):
            raise InputError(
                f"the Parquet file has a page before byte {start} that holds more than its column declares; {_ADVICE}"
            )
    return pages


def _structs(value: object, what: str) -> list[Struct]:
    if not isinstance(value, list) or not all(_is_struct(item) for item in value):
        raise InputError(f"the Parquet file has no list of {what}; {_ADVICE}")
    return value


def _is_struct(value: object) -> TypeGuard[Struct]:
    return isinstance(value, dict)


def _number(struct: Struct, number: int) -> int:
    value = struct.get(number)
    if not isinstance(value, int) or value < 0:
        raise InputError(f"the Parquet file lacks a size, or has a negative one; {_ADVICE}")
    return value
