"""Digests: canonical JSON and file-tree sha256."""

import hashlib
import json
import os
from pathlib import Path

from registry.errors import InputError

_CHUNK_BYTES = 1 << 20
_FIRST_BYTES = 1 << 16
"""Most files are small, and to make room for a whole chunk costs more than to read one of them."""


def canonical_json(value: object) -> bytes:
    """Return the one byte form of a JSON value: sorted keys, no spaces, UTF-8, no NaN.

    Raises:
        ValueError: the value holds NaN or an infinity.
        TypeError: the value is not JSON.
    """
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.encode()


def json_digest(value: object) -> str:
    """Return the sha256 (64 hex digits) of a value's canonical JSON."""
    return hashlib.sha256(canonical_json(value)).hexdigest()


def file_digest(path: Path | str) -> str:
    """Return the sha256 (64 hex digits) of a file's bytes."""
    digest = hashlib.sha256()
    file = os.open(path, os.O_RDONLY)
    try:
        chunk = os.read(file, _FIRST_BYTES)
        while chunk:
            digest.update(chunk)
            chunk = os.read(file, _CHUNK_BYTES)
    finally:
        os.close(file)
    return digest.hexdigest()


def tree_manifest(folder: Path) -> dict[str, str]:
    """Return {relative POSIX path: sha256} of every regular file below a folder.

    Raises:
        InputError: the folder holds a symbolic link or a special file, or no file at all.
    """
    manifest: dict[str, str] = {}
    _digest_files(folder, "", manifest)
    if not manifest:
        raise InputError(f"{folder} holds no file; an artifact needs at least one")
    return dict(sorted(manifest.items()))


def _digest_files(folder: Path, prefix: str, manifest: dict[str, str]) -> None:
    """Add every file below a folder; one look at each name, because every load of a model waits for this."""
    try:
        with os.scandir(folder) as found:
            entries = list(found)
    except (FileNotFoundError, NotADirectoryError):
        return
    for entry in entries:
        if entry.is_file(follow_symlinks=False):
            manifest[prefix + entry.name] = file_digest(entry.path)
        elif entry.is_dir(follow_symlinks=False):
            _digest_files(Path(entry.path), f"{prefix}{entry.name}/", manifest)
        else:
            raise InputError(f"{entry.path} is neither a regular file nor a folder; artifacts hold regular files only")


def tree_digest(folder: Path) -> str:
    """Return the digest of a folder's content: the digest of its manifest, independent of order and times."""
    return json_digest(tree_manifest(folder))
