"""Compressed bodies: what a client may choose, and what a body that lies about itself costs."""

import gzip
import tracemalloc
import zlib

import pytest

from registry.errors import InputError
from serving.doors.compression import choose, compress, decompress

BODY = b"0123456789" * 100
GZIP = gzip.compress(BODY, mtime=0)


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
def test_a_body_comes_back(coding: str) -> None:
    small = compress(BODY, coding)
    assert len(small) < len(BODY)
    assert decompress(small, coding, len(BODY)) == BODY
    assert (gzip.decompress if coding == "gzip" else zlib.decompress)(small) == BODY


def test_a_bomb_costs_no_more_than_the_limit() -> None:
    bomb = gzip.compress(bytes(200 * 2**20))
    tracemalloc.start()
    found = decompress(bomb, "gzip", 2**20)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(found) == 2**20 + 1
    assert peak < 4 * 2**20


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (BODY, "is not gzip"),
        (zlib.compress(BODY), "is not gzip"),
        (GZIP[:-1], "is cut short"),
        (GZIP[:-8] + bytes(8), "is not gzip"),
        (GZIP + b"more", "4 bytes stand behind"),
        (b"", "is cut short"),
    ],
)
def test_a_body_that_is_not_what_it_says_is_refused(body: bytes, message: str) -> None:
    with pytest.raises(InputError, match=message):
        decompress(body, "gzip", 10_000)


@pytest.mark.parametrize(
    ("accepted", "coding"),
    [
        ("gzip", "gzip"),
        ("deflate", "deflate"),
        ("deflate, GZIP", "gzip"),
        ("gzip;q=0, deflate;q=0.5", "deflate"),
        ("gzip; q=0.000", None),
        ("gzip;q=0.1", "gzip"),
        ("br, zstd", None),
        ("identity", None),
        ("", None),
        (";;,=,", None),
    ],
)
def test_the_client_chooses(accepted: str, coding: str | None) -> None:
    assert choose(accepted) == coding
