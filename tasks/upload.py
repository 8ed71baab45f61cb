"""Uploads: artifacts of one file, which the control API stored."""

from pathlib import Path

from registry.errors import InputError
from registry.store.base import ArtifactStore


def uploaded_file(artifacts: ArtifactStore, digest: str) -> Path:
    """Return the one file of an upload, its bytes checked.

    Raises:
        ModelNotFound: nothing is stored under this digest.
        InputError: what is stored is no upload.
    """
    files = [path for path in artifacts.checkout(digest).iterdir() if path.is_file()]
    if len(files) != 1:
        raise InputError(f"the upload {digest} holds {len(files)} files; a model or a set is one file")
    return files[0]
