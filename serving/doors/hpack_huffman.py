"""The Huffman code of header strings: a byte is looked up at a time, in tables that are made as they are needed.

Source: RFC 7541 (HPACK), section 5.2 and appendix B.
"""

_BY_LENGTH = {
    5: b"012aceiost",
    6: b" %-./3456789=A_bdfghlmnpru",
    7: b":BCDEFGHIJKLMNOPQRSTUVWYjkqvwxyz",
    8: b"&*,;XZ",
    10: b'!"()?',
    11: b"'+|",
    12: b"#>",
    13: b"\x00$@[]~",
    14: b"^}",
    15: b"<`{",
    19: b"\\\xc3\xd0",
    20: b"\x80\x82\x83\xa2\xb8\xc2\xe0\xe2",
    21: b"\x99\xa1\xa7\xac\xb0\xb1\xb3\xd1\xd8\xd9\xe3\xe5\xe6",
    22: b"\x81\x84\x85\x86\x88\x92\x9a\x9c\xa0\xa3\xa4\xa9\xaa\xad\xb2\xb5\xb9\xba\xbb\xbd\xbe\xc4\xc6\xe4\xe8\xe9",
    23: b"\x01\x87\x89\x8a\x8b\x8c\x8d\x8f\x93\x95\x96\x97\x98\x9b"
    b"\x9d\x9e\xa5\xa6\xa8\xae\xaf\xb4\xb6\xb7\xbc\xbf\xc5\xe7\xef",
    24: b"\x09\x8e\x90\x91\x94\x9f\xab\xce\xd7\xe1\xec\xed",
    25: b"\xc7\xcf\xea\xeb",
    26: b"\xc0\xc1\xc8\xc9\xca\xcd\xd2\xd5\xda\xdb\xee\xf0\xf2\xf3\xff",
    27: b"\xcb\xcc\xd3\xd4\xd6\xdd\xde\xdf\xf1\xf4\xf5\xf6\xf7\xf8\xfa\xfb\xfc\xfd\xfe",
    28: b"\x02\x03\x04\x05\x06\x07\x08\x0b\x0c\x0e\x0f\x10\x11\x12"
    b"\x13\x14\x15\x17\x18\x19\x1a\x1b\x1c\x1d\x1e\x1f\x7f\xdc\xf9",
    30: b"\n\r\x16",
}
"""The code is canonical: by length, then by symbol, each code is one more than the last. All ones are EOS."""
_LONGEST = 30
_PADDING = 7
"""The most bits that may be left over; they are ones."""


class NotHuffman(Exception):
    """A string that the code cannot have made."""


def _symbols() -> dict[tuple[int, int], int]:
    """Return each symbol by the length and the bits of its code."""
    found, code, last = {}, 0, 0
    for length, symbols in _BY_LENGTH.items():
        code <<= length - last
        last = length
        for symbol in symbols:
            found[length, code] = symbol
            code += 1
    return found


_SYMBOLS = _symbols()


class _Begun(dict[int, tuple["_Begun", bytes]]):
    """A code that is begun: by each byte that may come next, the symbols that are whole with it, and what they leave.

    There are 256 of these with 256 bytes each; what is sent needs few of them.
    """

    def __init__(self, length: int, bits: int) -> None:
        super().__init__()
        self._length, self._bits = length, bits
        self.may_end = length <= _PADDING and bits == (1 << length) - 1

    def __missing__(self, byte: int) -> tuple["_Begun", bytes]:
        length, bits, whole = self._length, self._bits, bytearray()
        for place in range(7, -1, -1):
            length, bits = length + 1, bits << 1 | byte >> place & 1
            symbol = _SYMBOLS.get((length, bits))
            if symbol is not None:
                whole.append(symbol)
                length = bits = 0
            elif length == _LONGEST:
                raise NotHuffman("EOS stands in the string")
        if (length, bits) not in _BEGUN:
            _BEGUN[length, bits] = _Begun(length, bits)
        found = self[byte] = (_BEGUN[length, bits], bytes(whole))
        return found


_BEGUN = {(0, 0): _Begun(0, 0)}
_START = _BEGUN[0, 0]


def huffman_decoded(data: bytes) -> bytes:
    """Return the string.

    Raises:
        NotHuffman: it holds EOS, or ends within a code.
    """
    begun, found = _START, []
    for byte in data:
        begun, symbols = begun[byte]
        found.append(symbols)
    if not begun.may_end:
        raise NotHuffman("the string ends within a code")
    return b"".join(found)
