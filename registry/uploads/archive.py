"""Zip archives that nobody vouches for: their directory, read entry by entry, and every entry held to the bounds.

Not ``zipfile``, which reads the whole directory into memory before it can be asked for its length, and which takes what
other readers of the same file would read differently.

Source: PKWARE, APPNOTE.TXT 6.3.10, sections 4.3 to 4.5.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from registry.errors import InputError
from registry.uploads.limits import SMALL_BYTES, UploadLimits
from registry.uploads.member import Member, check_local_header, parse_entry, read_member

_END = struct.Struct("<4s4H2LH")
_END_64 = struct.Struct("<4sQ2H2L4Q")
_LOCATOR_64 = struct.Struct("<4sLQL")
_ENTRY = struct.Struct("<4s6H3L5H2L")
_END_MAGIC, _END_64_MAGIC, _LOCATOR_64_MAGIC, _ENTRY_MAGIC = b"PK\5\6", b"PK\6\6", b"PK\6\7", b"PK\1\2"
_MAX_NAME_BYTES = 512


@dataclass(frozen=True)
class _Directory:
    """Where the list of members stands, counted from the archive's beginning."""

    offset: int
    size: int
    count: int


class Archive:
    """The checked members of a zip archive that is a part, or all, of an open file."""

    def __init__(self, stream: BinaryIO, size: int, limits: UploadLimits, *, start: int = 0) -> None:
        """Read the directory and check every entry, and what the entries come to.

        Args:
            stream: the file.
            size: the archive's bytes.
            limits: the bounds.
            start: where in the file the archive begins.

        Raises:
            InputError: it is no archive, a damaged or ambiguous one, or beyond a bound; the message names the member.
        """
        self._stream = stream
        self._start = start
        directory = self._find_directory(size)
        if directory.count > limits.members:
            raise InputError(f"the archive lists {directory.count} files; the limit is {limits.members}")
        members = list(self._entries(directory))
        self.members = tuple(member for member in members if not member.is_folder)
        """Files in the order of the directory; folders are left out."""
        self._check_names(members)
        self._check_places(members, directory)
        self._check_size(size, limits)

    @property
    def unpacked_bytes(self) -> int:
        """What all files declare to hold."""
        return sum(member.size for member in self.members)

    def read(self, member: Member) -> Iterator[bytes]:
        """Unpack a member in pieces, never more than it declares; its checksum is checked at the end.

        Raises:
            InputError: it is damaged, or holds other than it declares.
        """
        return read_member(self._stream, self._start, member)

    def verify(self) -> None:
        """Unpack every member and throw the bytes away.

        Raises:
            InputError: one is damaged, or holds other than it declares.
        """
        for member in self.members:
            for _ in self.read(member):
                pass

    def data_start(self, member: Member) -> int:
        """Return where in the file the packed bytes of a member begin."""
        return self._start + member.data_offset

    def _at(self, offset: int, count: int) -> bytes:
        self._stream.seek(self._start + offset)
        return self._stream.read(count)

    def _find_directory(self, size: int) -> _Directory:
        end = size - _END.size
        if end < 0 or (record := self._at(end, _END.size))[:4] != _END_MAGIC:
            raise InputError("the file is not a whole zip archive: it does not end with an archive's directory")
        _, disk, first_disk, here, count, length, offset, comment = _END.unpack(record)
        if end >= _LOCATOR_64.size and (place := self._at(end - _LOCATOR_64.size, _LOCATOR_64.size))[:4] == (
            _LOCATOR_64_MAGIC
        ):
            _, _, end, _ = _LOCATOR_64.unpack(place)
            found = self._at(end, _END_64.size) if end <= size - _END_64.size else b""
            if len(found) != _END_64.size or found[:4] != _END_64_MAGIC:
                raise InputError("the archive's 64-bit directory is not where it is said to be")
            _, rest, _, _, disk, first_disk, here, count, length, offset = _END_64.unpack(found)
            if end + 12 + rest != size - _END.size - _LOCATOR_64.size:
                raise InputError("the archive's 64-bit directory does not end where the archive ends")
        if comment or disk or first_disk or here != count:
            raise InputError("the archive has a comment or parts in other files; write it as one plain zip file")
        if offset + length != end:
            raise InputError("the archive's directory does not end where the archive ends; bytes were added or lost")
        return _Directory(offset, length, count)

    def _entries(self, directory: _Directory) -> Iterator[Member]:
        position = directory.offset
        for number in range(directory.count):
            record = self._at(position, _ENTRY.size)
            if len(record) != _ENTRY.size or record[:4] != _ENTRY_MAGIC:
                raise InputError(f"the archive's directory is damaged at entry {number + 1} of {directory.count}")
            fields = _ENTRY.unpack(record)
            name_bytes, extra_bytes, comment_bytes = fields[10:13]
            if name_bytes > _MAX_NAME_BYTES:
                raise InputError(f"entry {number + 1} has a name of {name_bytes} bytes; the limit is {_MAX_NAME_BYTES}")
            tail = self._at(position + _ENTRY.size, name_bytes + extra_bytes)
            position += _ENTRY.size + name_bytes + extra_bytes + comment_bytes
            member = parse_entry(fields, tail[:name_bytes], tail[name_bytes:])
            yield check_local_header(self._stream, self._start, member, directory.offset)
        if position != directory.offset + directory.size:
            raise InputError(f"the archive's directory holds more than the {directory.count} entries that it counts")

    @staticmethod
    def _check_names(members: list[Member]) -> None:
        seen: set[str] = set()
        for member in members:
            if member.path in seen:
                raise InputError(f"the member {member.name!r} stands twice in the archive")
            seen.add(member.path)

    @staticmethod
    def _check_places(members: list[Member], directory: _Directory) -> None:
        """No two members may share bytes, or a small file could unpack to any size."""
        last_end, last_name = 0, ""
        for member in sorted(members, key=lambda member: member.offset):
            if member.offset < last_end:
                raise InputError(f"the members {last_name!r} and {member.name!r} overlap in the archive")
            last_end, last_name = member.data_offset + member.packed_size, member.name
        first = min((member.offset for member in members), default=0)
        if first or last_end > directory.offset:
            raise InputError("the archive has other bytes before its first member, or members in its directory")

    def _check_size(self, size: int, limits: UploadLimits) -> None:
        unpacked = self.unpacked_bytes
        if unpacked > limits.unpacked_bytes:
            raise InputError(f"the archive unpacks to {unpacked} bytes; the limit is {limits.unpacked_bytes}")
        if unpacked > SMALL_BYTES and unpacked > limits.ratio * size:
            raise InputError(
                f"the archive unpacks to {unpacked} bytes, {unpacked // size} times its own {size}; "
                f"beyond {SMALL_BYTES} bytes the limit is {limits.ratio} times"
            )
