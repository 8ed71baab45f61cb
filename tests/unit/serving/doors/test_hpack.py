"""Blocks of headers: read and refused as the library hpack does, and bounded in what they cost."""

import re
from contextlib import suppress
from pathlib import Path

import pytest
from hpack import Decoder, Encoder, HPACKError, NeverIndexedHeaderTuple
from hpack.huffman import HuffmanEncoder
from hpack.huffman_constants import REQUEST_CODES, REQUEST_CODES_LENGTH
from hypothesis import given
from hypothesis import strategies as st

from serving.doors.hpack import TABLE_BYTES, HeaderDecoder, NotHpack, block
from serving.doors.hpack_huffman import NotHuffman, huffman_decoded
from serving.doors.http_messages import Headers

LIMIT = 64 * 1024
CODER = HuffmanEncoder(REQUEST_CODES, REQUEST_CODES_LENGTH)

NAMES = st.one_of(st.sampled_from([b":path", b":method", b"te", b"x-request-id"]), st.binary(min_size=1, max_size=20))
VALUES = st.one_of(st.sampled_from([b"POST", b"", b"trailers", b"v" * 300]), st.binary(max_size=40))
LISTS = st.lists(st.tuples(NAMES, VALUES, st.booleans()), max_size=8)
FIELDS = st.one_of(
    st.binary(min_size=1, max_size=12),
    st.sampled_from([b"\x82", b"\xbe", b"\xbf", b"\xff\x00", b"\x20", b"\x3f\x21", b"\x3f\xe1\x1f", b"\x40\x01a\x01b"]),
    st.builds(
        lambda first, name, value: first + b"".join(bytes([0x80 | len(one)]) + one for one in (name, value)),
        st.sampled_from([b"\x40", b"\x00", b"\x10"]),
        st.binary(max_size=6).map(CODER.encode),
        st.binary(max_size=20),
    ),
)


@given(
    st.lists(LISTS, max_size=6), st.booleans(), st.lists(st.sampled_from([0, 64, 200, 4096]), min_size=6, max_size=6)
)
def test_what_the_library_writes_is_read_as_it_was(
    blocks: list[list[tuple[bytes, bytes, bool]]], huffman: bool, sizes: list[int]
) -> None:
    encoder, decoder = Encoder(), HeaderDecoder(LIMIT)
    for headers, size in zip(blocks, sizes, strict=False):
        encoder.header_table_size = size
        written = encoder.encode(headers, huffman=huffman)
        assert decoder.decode(written) == [(name, value) for name, value, _ in headers]


@given(st.lists(st.lists(FIELDS, max_size=6).map(b"".join), max_size=4))
def test_any_bytes_are_read_or_refused_as_by_the_library(blocks: list[bytes]) -> None:
    theirs, ours = Decoder(LIMIT), HeaderDecoder(LIMIT)
    for one in blocks:
        try:
            expected = [(name, value) for name, value in theirs.decode(one, raw=True)]
        except HPACKError:
            with pytest.raises(NotHpack):
                ours.decode(one)
            return
        assert ours.decode(one) == expected


@given(st.binary(max_size=40))
def test_any_string_in_the_code_of_huffman_is_read_as_by_the_library(string: bytes) -> None:
    assert huffman_decoded(CODER.encode(string)) == string
    field = b"\x00\x01a" + bytes([0x80 | len(string)]) + string
    try:
        ((_, expected),) = Decoder().decode(field, raw=True)
    except HPACKError:
        with pytest.raises(NotHuffman):
            huffman_decoded(string)
    else:
        assert huffman_decoded(string) == expected


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param(b"\xff\xff\xff\xff", id="eos"),
        pytest.param(CODER.encode(b"a") + b"\xff", id="padded by more than 7 bits"),
        pytest.param(b"\x18", id="padded with zeros"),
    ],
)
def test_a_string_that_ends_wrong_is_refused(wrong: bytes) -> None:
    with pytest.raises(NotHuffman):
        huffman_decoded(wrong)


REQUESTS = [
    [(b":method", b"GET"), (b":scheme", b"http"), (b":path", b"/"), (b":authority", b"www.example.com")],
    [
        *[(b":method", b"GET"), (b":scheme", b"http"), (b":path", b"/"), (b":authority", b"www.example.com")],
        (b"cache-control", b"no-cache"),
    ],
    [
        *[(b":method", b"GET"), (b":scheme", b"https"), (b":path", b"/index.html")],
        *[(b":authority", b"www.example.com"), (b"custom-key", b"custom-value")],
    ],
]


@pytest.mark.parametrize(
    "blocks",
    [
        pytest.param(
            [
                "8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
                "8286 84be 5808 6e6f 2d63 6163 6865",
                "8287 85bf 400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65",
            ],
            id="C.3",
        ),
        pytest.param(
            [
                "8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff",
                "8286 84be 5886 a8eb 1064 9cbf",
                "8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf",
            ],
            id="C.4",
        ),
    ],
)
def test_the_requests_of_the_rfc(blocks: list[str]) -> None:
    decoder = HeaderDecoder(LIMIT)
    assert [decoder.decode(bytes.fromhex(one)) for one in blocks] == REQUESTS


@pytest.mark.parametrize(
    ("written", "header"),
    [
        ("400a 6375 7374 6f6d 2d6b 6579 0d63 7573 746f 6d2d 6865 6164 6572", (b"custom-key", b"custom-header")),
        ("040c 2f73 616d 706c 652f 7061 7468", (b":path", b"/sample/path")),
        ("1008 7061 7373 776f 7264 0673 6563 7265 74", (b"password", b"secret")),
        ("82", (b":method", b"GET")),
    ],
)
def test_the_kinds_of_fields_of_the_rfc(written: str, header: tuple[bytes, bytes]) -> None:
    decoder = HeaderDecoder(LIMIT)
    assert decoder.decode(bytes.fromhex(written)) == [header]
    with suppress(NotHpack):  # only the first of them is kept
        assert decoder.decode(b"\xbe") == [(b"custom-key", b"custom-header")]
        assert written.startswith("40")


def test_the_responses_of_the_rfc_with_a_table_of_256_bytes() -> None:
    """C.6: each one evicts what the ones before have left."""
    date, later = b"Mon, 21 Oct 2013 20:13:21 GMT", b"Mon, 21 Oct 2013 20:13:22 GMT"
    cookie = b"foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1"
    private, place = (b"cache-control", b"private"), (b"location", b"https://www.example.com")
    blocks = [
        "3fe101 4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 66e0 82a6 2d1b ff6e 919d"
        "29ad 1718 63c7 8f0b 97c8 e9ae 82ae 43d3",
        "4883 640e ffc1 c0bf",
        "88c1 6196 d07a be94 1054 d444 a820 0595 040b 8166 e084 a62d 1bff c05a 839b d9ab 77ad 94e7 821d d7f2 e6c7 b335"
        "dfdf cd5b 3960 d5af 2708 7f36 72c1 ab27 0fb5 291f 9587 3160 65c0 03ed 4ee5 b106 3d50 07",
    ]
    decoder = HeaderDecoder(LIMIT)
    assert [decoder.decode(bytes.fromhex(one)) for one in blocks] == [
        [(b":status", b"302"), private, (b"date", date), place],
        [(b":status", b"307"), private, (b"date", date), place],
        [
            *[(b":status", b"200"), private, (b"date", later), place, (b"content-encoding", b"gzip")],
            (b"set-cookie", cookie),
        ],
    ]


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param(b"\x80", id="header 0"),
        pytest.param(b"\xbe", id="behind the table"),
        pytest.param(b"\xff\x00", id="behind the table, in two bytes"),
        pytest.param(b"\x7e\x01a", id="a name behind the table"),
        pytest.param(b"\xff\xff\xff\xff\xff\xff\x0f", id="a number of too many octets"),
        pytest.param(b"\xff\x80\x80\x80\x80\x80\x00", id="a number of too many octets that is small"),
        pytest.param(b"\x00\x7f\xff\xff\xff\xff\x0fa", id="a string longer than the block"),
        pytest.param(b"\x00\x01a", id="no value"),
        pytest.param(b"\x00\x01a\x05b", id="a value that is cut off"),
        pytest.param(b"\xff", id="a number that is cut off"),
        pytest.param(b"\x3f\xe2\x1f", id="a table larger than there may be"),
        pytest.param(b"\x82\x20", id="another size behind a header"),
        pytest.param(b"\x20\x40\x01a\x01b\xbe", id="a table without room"),
    ],
)
def test_hostile_blocks_are_refused(wrong: bytes) -> None:
    with pytest.raises(NotHpack):
        HeaderDecoder(LIMIT).decode(wrong)


def test_a_few_bytes_cannot_stand_for_many() -> None:
    """One entry as large as the table is referred to again and again."""
    entry = b"\x40\x01a" + b"\x7f\xe0\x1e" + b"v" * (TABLE_BYTES - 33)
    most = LIMIT // TABLE_BYTES
    assert HeaderDecoder(LIMIT).decode(entry + b"\xbe" * (most - 1)) == [(b"a", b"v" * (TABLE_BYTES - 33))] * most
    with pytest.raises(NotHpack, match="larger than 65536 bytes"):
        HeaderDecoder(LIMIT).decode(entry + b"\xbe" * most)


def test_a_header_larger_than_the_table_empties_it() -> None:
    decoder = HeaderDecoder(LIMIT)
    assert decoder.decode(b"\x40\x01a\x01b\xbe") == [(b"a", b"b")] * 2
    large = b"v" * (TABLE_BYTES - 32)
    assert decoder.decode(b"\x40\x01a" + b"\x7f\xe1\x1e" + large) == [(b"a", large)]
    with pytest.raises(NotHpack):
        decoder.decode(b"\xbe")


def test_what_a_gateway_sends_is_read_as_by_the_library() -> None:
    """Blocks that Envoy sent on one connection; its table is full after half of them."""
    blocks = [bytes.fromhex(line) for line in (Path(__file__).parent / "envoy_blocks.txt").read_text().split()]
    theirs, ours = Decoder(LIMIT), HeaderDecoder(LIMIT)
    ids = set()
    for one in blocks:
        headers = ours.decode(one)
        assert headers == [(name, value) for name, value in theirs.decode(one, raw=True)]
        ids.add(dict(headers)[b"x-request-id"])
    assert len(ids) == len(blocks) == 60
    assert all(re.fullmatch(rb"[0-9a-f-]{36}", one) for one in ids)


@given(st.lists(st.tuples(NAMES, VALUES), max_size=8))
def test_what_is_written_is_read_by_the_library_and_leaves_its_table_empty(headers: Headers) -> None:
    decoder = Decoder(LIMIT)
    read = decoder.decode(block([*headers, (b":status", b"200")]), raw=True)
    assert [(name, value) for name, value in read] == [*headers, (b":status", b"200")]
    assert len(decoder.header_table.dynamic_entries) == 0
    known = {(b":status", b"200"), (b":method", b"POST")}
    assert all(isinstance(one, NeverIndexedHeaderTuple) for one in read if one not in known and one[1])
