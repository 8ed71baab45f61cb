"""The catalog: one small file per model in a watched folder, written by atomic rename."""

import os
import tempfile
from pathlib import Path

from pydantic import ValidationError

from registry.errors import InputError
from registry.records.release import CatalogEntry

SUFFIX = ".json"


def write_entry(folder: Path, entry: CatalogEntry) -> None:
    """Write ``<model>.json`` so that a reader sees the old file or the new one, never a part.

    The folder is made if it is not there. The bytes are on disk before the rename.
    """
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / f"{entry.model}{SUFFIX}"
    descriptor, name = tempfile.mkstemp(dir=folder, prefix=f".{entry.model}-", suffix=".tmp")
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(entry.model_dump_json().encode())
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync_folder(folder)


def read_entry(path: Path) -> CatalogEntry:
    """Read one catalog file.

    Raises:
        InputError: the file is gone, is not a catalog entry, or holds another model than its name says.
    """
    try:
        entry = CatalogEntry.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise InputError(f"the catalog file {path} cannot be read: {error}") from error
    if entry.model != path.stem:
        raise InputError(f"the catalog file {path} holds the model {entry.model!r}; the file's name must be the model")
    return entry


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
