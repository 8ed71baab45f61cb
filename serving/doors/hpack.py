"""Headers as HTTP/2 writes them: blocks are decoded with the table that their sender fills, and written without one.

A block that is written refers to nothing that was sent before, so that it is the same bytes in every answer, and two of
them stand one behind the other. Nothing of it enters the other side's table.

Source: RFC 7541 (HPACK).
"""

from collections import deque
from collections.abc import Iterable
from functools import lru_cache

from serving.doors.hpack_huffman import NotHuffman, huffman_decoded
from serving.doors.http_messages import Headers

TABLE_BYTES = 4096
"""Of what a sender may refer to: what a side that says nothing of it has room for."""
ENTRY_BYTES = 32
"""That a header counts beside its name and its value."""

_STATIC_TEXT = """\
:authority
:method GET
:method POST
:path /
:path /index.html
:scheme http
:scheme https
:status 200
:status 204
:status 206
:status 304
:status 400
:status 404
:status 500
accept-charset
accept-encoding gzip, deflate
accept-language
accept-ranges
accept
access-control-allow-origin
age
allow
authorization
cache-control
content-disposition
content-encoding
content-language
content-length
content-location
content-range
content-type
cookie
date
etag
expect
expires
from
host
if-match
if-modified-since
if-none-match
if-range
if-unmodified-since
last-modified
link
location
max-forwards
proxy-authenticate
proxy-authorization
range
referer
refresh
retry-after
server
set-cookie
strict-transport-security
transfer-encoding
user-agent
vary
via
www-authenticate
"""
_STATIC = [(name, value) for name, _, value in (line.partition(b" ") for line in _STATIC_TEXT.encode().splitlines())]
"""What every table begins with, from 1."""

_INDEXED, _INSERTED, _RESIZED, _NEVER = 0x80, 0x40, 0x20, 0x10
"""The bits that say what a field is: a reference, a header to keep, another size of the table, one never to keep."""
_INDEX, _INSERTED_INDEX, _SIZE, _OTHER_INDEX = 0x7F, 0x3F, 0x1F, 0x0F
"""And those of the number beside them; all ones: it goes on."""
_OWN, _LONG = _INDEXED + 1 + len(_STATIC), 0xFF
"""The first reference to what a sender has filled in, and the first that takes more than a byte."""
_HUFFMAN, _LENGTH = 0x80, 0x7F
_MOST_OCTETS = 5
"""Of a number, behind the one that it begins in."""
_REMEMBERED = 1024
_REMEMBERED_BYTES = 64
"""Strings no longer than this are worth remembering; so many of them are little to keep."""


class NotHpack(Exception):
    """A block that cannot be decoded; the connection's table is of no use any more."""


class HeaderDecoder:
    """Decodes the blocks of one connection, all of them, in their order."""

    def __init__(self, limit: int) -> None:
        """Take how large the headers of one block may be."""
        self._limit = limit
        self._table: deque[tuple[bytes, bytes]] = deque()
        """The youngest first."""
        self._size = 0
        self._room = TABLE_BYTES

    def decode(self, block: bytes) -> Headers:
        """Return the headers of a block.

        Raises:
            NotHpack: they cannot be decoded, or are too large.
        """
        headers: Headers = []
        at, end, table = 0, len(block), self._table
        try:
            while at < end:
                first = block[at]
                if _OWN <= first < _LONG:  # most of what comes are references of one byte: to the table
                    headers.append(table[first - _OWN])
                    at += 1
                elif _INDEXED < first < _OWN:  # or to what every table begins with
                    headers.append(_STATIC[first - _INDEXED - 1])
                    at += 1
                elif first >= _INDEXED:
                    index, at = _number(block, at, _INDEX)
                    headers.append(self._entry(index))
                elif first & (_INSERTED | _RESIZED) == _RESIZED:
                    at = self._resize(block, at, headers)
                else:
                    at = self._literal(block, at, headers)
        except (IndexError, NotHuffman) as error:
            raise NotHpack(str(error)) from error
        if sum([ENTRY_BYTES + len(name) + len(value) for name, value in headers]) > self._limit:
            raise NotHpack(f"the headers are larger than {self._limit} bytes")
        return headers

    def _entry(self, index: int) -> tuple[bytes, bytes]:
        if index > len(_STATIC):
            return self._table[index - len(_STATIC) - 1]
        if not index:
            raise NotHpack("there is no header 0")
        return _STATIC[index - 1]

    def _literal(self, block: bytes, at: int, headers: Headers) -> int:
        """Decode a header that is spelled out; return where the next one begins."""
        insert = block[at] & _INSERTED
        index, at = _number(block, at, _INSERTED_INDEX if insert else _OTHER_INDEX)
        if index:
            name = self._entry(index)[0]
        else:
            name, at = _string(block, at)
        value, at = _string(block, at)
        header = (name, value)
        headers.append(header)
        if insert:
            self._table.appendleft(header)
            self._size += ENTRY_BYTES + len(name) + len(value)
            self._evict()
        return at

    def _resize(self, block: bytes, at: int, headers: Headers) -> int:
        if headers:
            raise NotHpack("the size of the table changes behind a header")
        self._room, at = _number(block, at, _SIZE)
        if self._room > TABLE_BYTES:
            raise NotHpack(f"the table is to have more than {TABLE_BYTES} bytes")
        self._evict()
        return at

    def _evict(self) -> None:
        while self._size > self._room:
            name, value = self._table.pop()
            self._size -= ENTRY_BYTES + len(name) + len(value)


def _number(block: bytes, at: int, mask: int) -> tuple[int, int]:
    """Return the number that begins in the low bits of a byte, and where what follows it begins."""
    number = block[at] & mask
    if number < mask:
        return number, at + 1
    for place in range(_MOST_OCTETS):
        octet = block[at + 1 + place]
        number += (octet & 0x7F) << 7 * place
        if octet < 0x80:
            return number, at + 2 + place
    raise NotHpack(f"a number takes more than {_MOST_OCTETS} octets")


def _string(block: bytes, at: int) -> tuple[bytes, int]:
    """Return the string that begins somewhere, and where what follows it begins."""
    coded = block[at] >= _HUFFMAN
    length, at = _number(block, at, _LENGTH)
    end = at + length
    if end > len(block):
        raise NotHpack("the block ends within a string")
    data = block[at:end]
    if coded:
        data = _remembered(data) if length <= _REMEMBERED_BYTES else huffman_decoded(data)
    return data, end


_remembered = lru_cache(_REMEMBERED)(huffman_decoded)
"""Names and most values come again and again."""


_PLACES = {header: bytes([_INDEXED | index]) for index, header in enumerate(_STATIC, 1)}
_NAME_PLACES = {name: index for index, (name, _) in reversed([*enumerate(_STATIC, 1)])}


def block(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Write headers, without the code of Huffman: reading it costs the other side more than the bytes that it saves."""
    return b"".join([_PLACES.get(header) or _name_written(header[0]) + _written(header[1]) for header in headers])


@lru_cache(64)
def _name_written(name: bytes) -> bytes:
    index = _NAME_PLACES.get(name)
    if index is None:
        return bytes([_NEVER]) + _written(name)
    return _number_written(index, _NEVER, _OTHER_INDEX)


def _written(string: bytes) -> bytes:
    return _number_written(len(string), 0, _LENGTH) + string


def _number_written(number: int, bits: int, mask: int) -> bytes:
    if number < mask:
        return bytes((bits | number,))
    octets, number = [bits | mask], number - mask
    while number > 0x7F:
        octets.append(0x80 | number & 0x7F)
        number >>= 7
    return bytes([*octets, number])
