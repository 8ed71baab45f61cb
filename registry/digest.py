"""Digests: canonical JSON and file-tree sha256."""

import hashlib
import json
from pathlib import Path

from registry.errors import InputError

_CHUNK_BYTES = 1 << 20


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


def file_digest(path: Path) -> str:
    """Return the sha256 (64 hex digits) of a file's bytes."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def tree_manifest(folder: Path) -> dict[str, str]:
    """Return {relative POSIX path: sha256} of every regular file below a folder.

    Raises:
        InputError: the folder holds a symbolic link or a special file, or no file at all.
    """
    manifest: dict[str, str] = {}
    for path in sorted(folder.rglob("*")):
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            raise InputError(f"{path} is neither a regular file nor a folder; artifacts hold regular files only")
        if path.is_file():
            manifest[path.relative_to(folder).as_posix()] = file_digest(path)
    if not manifest:
        raise InputError(f"{folder} holds no file; an artifact needs at least one")
    return manifest


def tree_digest(folder: Path) -> str:
    """Return the digest of a folder's content: the digest of its manifest, independent of order and times."""
    return json_digest(tree_manifest(folder))
