"""One member of a zip archive: its entry in the directory, its local header, its bytes.

Source: PKWARE, APPNOTE.TXT 6.3.10, sections 4.3 to 4.5.
"""

import re
import stat
import struct
import unicodedata
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import BinaryIO

from registry.errors import InputError

_LOCAL = struct.Struct("<4s5H3L2H")
_LOCAL_MAGIC = b"PK\3\4"
_STORED, _DEFLATED = 0, 8
_ENCRYPTED = 0x0001 | 0x0040 | 0x2000
_SIZES_FOLLOW = 0x0008
_UTF8 = 0x0800
_ZIP64_EXTRA, _UNICODE_PATH_EXTRA = 0x0001, 0x7075
_IN_EXTRA = 0xFFFFFFFF
_DRIVE = re.compile(r"[A-Za-z]:")
_CHUNK_BYTES = 1 << 18


@dataclass(frozen=True)
class Member:
    """A file or folder in an archive; offsets count from the archive's beginning."""

    name: str
    stored: bool
    crc: int
    packed_size: int
    size: int
    offset: int
    raw_name: bytes
    flags: int
    data_offset: int = 0

    @property
    def is_folder(self) -> bool:
        """True for an entry that only names a folder."""
        return self.name.endswith("/")

    @property
    def path(self) -> str:
        """The name in the one form in which names are compared."""
        return unicodedata.normalize("NFC", self.name.rstrip("/"))


def parse_entry(fields: tuple[int, ...], raw_name: bytes, extra: bytes) -> Member:
    """Make a member of a directory entry (its 17 fields, the magic among them).

    Raises:
        InputError: encrypted, packed in an unknown way, not a plain file, or with a name that leads elsewhere.
    """
    _, _, _, flags, method, _, _, crc, packed_size, size, *_ = fields
    disk, attributes, offset = fields[13], fields[15], fields[16]
    name = _name(raw_name, flags)
    extras = _extras(extra, name)
    if _UNICODE_PATH_EXTRA in extras:
        raise InputError(f"the member {name!r} has a second name; write the archive with plain names")
    size, packed_size, offset = _wide((size, packed_size, offset), extras.get(_ZIP64_EXTRA, b""), name)
    kind = stat.S_IFMT(attributes >> 16)
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        what = "a symbolic link" if kind == stat.S_IFLNK else "a special file"
        raise InputError(f"the member {name!r} is {what}; an archive may hold files only")
    if disk:
        raise InputError(f"the member {name!r} stands in another file; write the archive as one file")
    member = Member(name, method == _STORED, crc, packed_size, size, offset, raw_name, flags)
    _check_packing(member, method)
    return member


def check_local_header(stream: BinaryIO, start: int, member: Member, end: int) -> Member:
    """Hold the header before a member's bytes to the directory's entry; return the member with where its bytes begin.

    Raises:
        InputError: the two differ, so that readers may take the member for different files; or the bytes do not lie
            before the directory, at ``end``.
    """
    stream.seek(start + member.offset)
    record = stream.read(_LOCAL.size)
    if member.offset + _LOCAL.size > end or len(record) != _LOCAL.size or record[:4] != _LOCAL_MAGIC:
        raise InputError(f"the member {member.name!r} is not where the archive's directory says")
    _, _, flags, method, _, _, crc, packed_size, size, name_bytes, extra_bytes = _LOCAL.unpack(record)
    tail = stream.read(name_bytes + extra_bytes)
    found = _wide((size, packed_size), _extras(tail[name_bytes:], member.name).get(_ZIP64_EXTRA, b""), member.name)
    same = tail[:name_bytes] == member.raw_name and flags == member.flags and (method == _STORED) == member.stored
    if not flags & _SIZES_FOLLOW:
        same = same and (crc, *found) == (member.crc, member.size, member.packed_size)
    if not same:
        raise InputError(f"the member {member.name!r} is described differently in the directory and before its bytes")
    data_offset = member.offset + _LOCAL.size + name_bytes + extra_bytes
    if data_offset + member.packed_size > end:
        raise InputError(f"the member {member.name!r} is cut short: its bytes run into the archive's directory")
    return replace(member, data_offset=data_offset)


def read_member(stream: BinaryIO, start: int, member: Member) -> Iterator[bytes]:
    """Unpack a member in pieces, never more than it declares.

    Raises:
        InputError: it is damaged, or holds other than it declares.
    """
    found = crc = 0
    try:
        for piece in _pieces(stream, start, member):
            found += len(piece)
            if found > member.size:
                raise InputError(f"the member {member.name!r} unpacks to more than the {member.size} bytes it declares")
            crc = zlib.crc32(piece, crc)
            yield piece
    except zlib.error as error:
        raise InputError(f"the member {member.name!r} is damaged: {error}") from error
    if found != member.size or crc != member.crc:
        raise InputError(f"the member {member.name!r} is damaged: it holds other bytes than it declares")


def _pieces(stream: BinaryIO, start: int, member: Member) -> Iterator[bytes]:
    position, left = start + member.data_offset, member.packed_size
    inflate = None if member.stored else zlib.decompressobj(-zlib.MAX_WBITS)
    while left:
        stream.seek(position)  # others may read between two pieces
        packed = stream.read(min(left, _CHUNK_BYTES))
        if not packed:
            raise InputError(f"the member {member.name!r} is cut short")
        position, left = position + len(packed), left - len(packed)
        if inflate is None:
            yield packed
            continue
        piece = inflate.decompress(packed, _CHUNK_BYTES)
        while piece:
            yield piece
            piece = inflate.decompress(inflate.unconsumed_tail, _CHUNK_BYTES)
    if inflate is not None and (not inflate.eof or inflate.unused_data):
        raise InputError(f"the member {member.name!r} is damaged: its packed bytes end too early or too late")


def _name(raw: bytes, flags: int) -> str:
    """Decode a name and refuse what leads out of a folder, or means different paths on different systems."""
    try:
        name = raw.decode("utf-8" if flags & _UTF8 else "ascii")
    except UnicodeDecodeError as error:
        raise InputError(f"the member {raw!r} has a name that is neither ASCII nor marked as UTF-8") from error
    parts = name.removesuffix("/").split("/")
    if not name or any(not part or part in (".", "..") for part in parts) or _DRIVE.match(name):
        raise InputError(f"the member {name!r} has a name that leads out of the archive; use plain relative names")
    if "\\" in name or any(unicodedata.category(letter).startswith("C") for letter in name):
        raise InputError(f"the member {name!r} has a backslash or a control character in its name")
    return name


def _extras(extra: bytes, name: str) -> dict[int, bytes]:
    found: dict[int, bytes] = {}
    while len(extra) >= 4:
        kind, count = struct.unpack_from("<HH", extra)
        if kind in found or len(extra) < 4 + count:
            raise InputError(f"the member {name!r} has damaged extra fields")
        found[kind] = extra[4 : 4 + count]
        extra = extra[4 + count :]
    return found


def _wide(values: tuple[int, ...], extra: bytes, name: str) -> tuple[int, ...]:
    """Take sizes that need 64 bits from the extra field, in its order."""
    wide = list(values)
    for index, value in enumerate(values):
        if value == _IN_EXTRA:
            if len(extra) < 8:
                raise InputError(f"the member {name!r} lacks its 64-bit size")
            (wide[index],) = struct.unpack_from("<Q", extra)
            extra = extra[8:]
    return tuple(wide)


def _check_packing(member: Member, method: int) -> None:
    if member.flags & _ENCRYPTED:
        raise InputError(f"the member {member.name!r} is encrypted; write the archive without a password")
    if method not in (_STORED, _DEFLATED):
        raise InputError(f"the member {member.name!r} is packed by method {method}; store or deflate it")
    if member.stored and member.size != member.packed_size:
        raise InputError(f"the member {member.name!r} is stored, but declares two sizes")
    if member.is_folder and member.size:
        raise InputError(f"the member {member.name!r} is a folder with bytes of its own")
