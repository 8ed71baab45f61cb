from pathlib import Path

import pytest

from registry.errors import InputError, ModelNotFound
from registry.store.artifacts_local import LocalArtifacts
from tasks.upload import uploaded_file


def stored(artifacts: LocalArtifacts, folder: Path, *names: str) -> str:
    folder.mkdir()
    for name in names:
        (folder / name).write_bytes(name.encode())
    return artifacts.put(folder)


def test_the_one_file_of_an_upload(tmp_path: Path) -> None:
    artifacts = LocalArtifacts(tmp_path / "store")
    path = uploaded_file(artifacts, stored(artifacts, tmp_path / "upload", "model.pt2"))
    assert (path.name, path.read_bytes()) == ("model.pt2", b"model.pt2")


def test_the_model_of_a_bundle(tmp_path: Path) -> None:
    artifacts = LocalArtifacts(tmp_path / "store")
    path = uploaded_file(artifacts, stored(artifacts, tmp_path / "upload", "a.data", "model.onnx", "z.data"))
    assert path.name == "model.onnx"


def test_what_is_no_upload_is_refused(tmp_path: Path) -> None:
    artifacts = LocalArtifacts(tmp_path / "store")
    with pytest.raises(InputError, match="holds 2 files"):
        uploaded_file(artifacts, stored(artifacts, tmp_path / "two", "a", "b"))
    with pytest.raises(ModelNotFound):
        uploaded_file(artifacts, "0" * 64)
