"""Files that the client sends: of a kind that the platform takes, and known by their sha256."""

import hashlib
from pathlib import Path
from typing import BinaryIO

from burnish.errors import InputError

MODEL_SUFFIXES = (".pt2", ".onnx", ".zip")
DATASET_SUFFIXES = (".npz", ".parquet")
_CHUNK_BYTES = 1 << 20


def require_file(kind: str, path: Path, suffixes: tuple[str, ...]) -> None:
    """Check that a file is there and that its name says one of the formats.

    Raises:
        InputError: it is not, or it does not.
    """
    if path.suffix not in suffixes:
        raise InputError(f"{kind}: {path} must end in {' or '.join(suffixes)}")
    if not path.is_file():
        raise InputError(f"{kind}: there is no file {path}")


def sha256_of(stream: BinaryIO) -> str:
    """Return the digest of an open file, and go back to its beginning."""
    digest = hashlib.sha256()
    while chunk := stream.read(_CHUNK_BYTES):
        digest.update(chunk)
    stream.seek(0)
    return digest.hexdigest()
