"""Zip archives as nobody's tool writes them: real ones, edited byte by byte."""

import io
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from registry.uploads.archive import Archive
from registry.uploads.limits import UploadLimits

LIMITS = UploadLimits()


class CountingFile(io.BytesIO):
    """A file in memory that counts what is read of it."""

    read_bytes = 0

    def read(self, size: int | None = -1, /) -> bytes:
        taken = super().read(size)
        self.read_bytes += len(taken)
        return taken


def zipped(members: Mapping[Any, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    """An archive as ``zipfile`` writes it, of contents by name or by ``ZipInfo``."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def opened(content: bytes, limits: UploadLimits = LIMITS) -> Archive:
    """The checked archive in these bytes."""
    return Archive(io.BytesIO(content), len(content), limits)


def directory(content: bytes) -> int:
    """Where the directory of an archive without a comment begins."""
    found: int = struct.unpack_from("<L", content, len(content) - 6)[0]
    return found


def patched(content: bytes, offset: int, new: bytes) -> bytes:
    """The bytes with some of them replaced."""
    return content[:offset] + new + content[offset + len(new) :]


def in_entry(content: bytes, field: int, new: bytes, *, also_local: int | None = None) -> bytes:
    """An archive with a field of its first directory entry replaced, and perhaps of its first local header."""
    content = patched(content, directory(content) + field, new)
    return content if also_local is None else patched(content, also_local, new)


def written(folder: Path, name: str, content: bytes) -> Path:
    """A file with these bytes."""
    path = folder / name
    path.write_bytes(content)
    return path
