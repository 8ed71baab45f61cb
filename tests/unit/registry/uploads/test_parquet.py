import io
import struct
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from registry.errors import InputError
from registry.uploads import parquet
from registry.uploads.parquet import check_parquet

TABLE = {
    "x": [[float(row), 2.0, 3.0] for row in range(2000)],
    "n": list(range(2000)),
    "slice": [f"part {row % 7}" for row in range(2000)],
}


def written(**options: Any) -> bytes:  # noqa: ANN401
    buffer = io.BytesIO()
    pq.write_table(pa.table(TABLE), buffer, **options)
    return buffer.getvalue()


def check(content: bytes) -> None:
    check_parquet(io.BytesIO(content), len(content))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"compression": "zstd", "row_group_size": 300},
        {"compression": "none", "use_dictionary": False, "data_page_version": "2.0"},
        {"compression": "gzip", "data_page_size": 500, "write_page_index": True},
        {"version": "1.0", "write_statistics": False},
        {"use_byte_stream_split": ["x.list.element"], "use_dictionary": False},
    ],
)
def test_what_pyarrow_writes_is_taken(options: dict[str, Any]) -> None:
    check(written(**options))


def varint(value: int) -> bytes:
    out = b""
    while value > 127:
        out, value = out + bytes([value & 127 | 128]), value >> 7
    return out + bytes([value])


def with_footer(footer: bytes) -> bytes:
    return b"PAR1" + bytes(100) + footer + struct.pack("<L", len(footer)) + b"PAR1"


LONG_LIST = bytes([0x49, 0xFC]) + varint(10**9)  # field 4: a list of 10**9 structs
LONG_TEXT = bytes([0x18]) + varint(10**9)  # field 1: a text of 10**9 bytes
DEEP = bytes([0x1C] * 40)  # field 1: a struct that begins with field 1, a struct


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "not a whole Parquet file"),
        (b"PAR1" * 2, "not a whole Parquet file"),
        (written()[:-1], "not a whole Parquet file"),
        (b"PARE" + bytes(20) + b"PARE", "is encrypted"),
        (b"PAR1" + bytes(20) + struct.pack("<L", 2**31) + b"PAR1", "a footer of 2147483648 bytes"),
        (with_footer(LONG_LIST), "declares 1000000000 values"),
        (with_footer(LONG_TEXT), "declares 1000000000 bytes"),
        (with_footer(DEEP), "nested too deeply"),
        (with_footer(b"\x00"), "no list of row groups"),
        (with_footer(b"\xff" * 50), "is damaged|breaks off"),
        (with_footer(b""), "breaks off"),
    ],
)
def test_damaged_and_lying_files_are_refused(content: bytes, said: str) -> None:
    with pytest.raises(InputError, match=said):
        check(content)


def rewritten(content: bytes, old: int, new: int) -> bytes:
    """A file in whose footer each number ``old`` (as written there: zigzag, variable length) is another."""
    length = struct.unpack("<L", content[-8:-4])[0]
    body, footer = content[: -8 - length], content[-8 - length : -8]
    assert varint(2 * old) in footer
    footer = footer.replace(varint(2 * old), varint(2 * new))
    return body + footer + struct.pack("<L", len(footer)) + b"PAR1"


def test_more_values_than_a_set_may_hold_are_refused() -> None:
    with pytest.raises(InputError, match="more than the limit of"):
        check(rewritten(written(), 6000, 10**12))


def test_pages_must_keep_to_what_their_column_declares() -> None:
    content = written(compression="gzip", use_dictionary=False)
    column = pq.read_metadata(io.BytesIO(content)).row_group(0).column(1)
    with pytest.raises(InputError, match="holds more than its column declares"):
        check(rewritten(content, column.total_uncompressed_size, 10))
    with pytest.raises(InputError, match="places a column at bytes"):
        check(rewritten(content, column.data_page_offset, 10**9))


def test_pages_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet, "_MAX_PAGES", 10)
    check(written())
    with pytest.raises(InputError, match="more than 10 pages"):
        check(written(data_page_size=100, use_dictionary=False, write_batch_size=10))


def test_any_damage_of_the_footer_is_an_input_error_or_harmless() -> None:
    content = bytearray(written())
    generator = np.random.default_rng(0)
    refused = 0
    for _ in range(300):
        damaged = bytearray(content)
        for place in generator.integers(len(content) - 400, len(content), 3):
            damaged[place] = generator.integers(256)
        try:
            check(bytes(damaged))
        except InputError:
            refused += 1
    assert refused > 20
