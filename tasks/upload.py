"""Uploads: what the control API stored; a set is one file, a model is one file or an ONNX model with its weights."""

from pathlib import Path

from registry.errors import InputError
from registry.store.base import ArtifactStore
from registry.uploads.onnx_bundle import MODEL_FILE


def uploaded_file(artifacts: ArtifactStore, digest: str) -> Path:
    """Return the file of an upload, its bytes checked; an ONNX model's weights may stand beside it.

    Raises:
        ModelNotFound: nothing is stored under this digest.
        InputError: what is stored is no upload.
    """
    files = [path for path in artifacts.checkout(digest).iterdir() if path.is_file()]
    main = files if len(files) == 1 else [path for path in files if path.name == MODEL_FILE]
    if len(main) != 1:
        raise InputError(f"the upload {digest} holds {len(files)} files, and none of them is {MODEL_FILE}")
    return main[0]
