from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from registry.errors import InputError, ModelNotFound
from registry.store.artifacts_local import LocalArtifacts
from registry.uploads.admission import UploadName, admit
from registry.uploads.limits import UploadLimits
from tasks.optimizer.source import take_in
from tasks.upload import uploaded_file
from tests.unit.registry.uploads.models import bundle


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


def test_a_bundle_that_was_uploaded_is_taken_in_with_its_weights(tmp_path: Path) -> None:
    (tmp_path / "model.zip").write_bytes(bundle())
    tree, artifacts = tmp_path / "tree", LocalArtifacts(tmp_path / "store")
    tree.mkdir()
    limits = UploadLimits(max_bytes=2**20, unpacked_bytes=2**20, members=10, ratio=100)
    admit(tmp_path / "model.zip", UploadName.ONNX_BUNDLE, limits, tree)
    taken = take_in(uploaded_file(artifacts, artifacts.put(tree)), tmp_path / "work")
    assert [(spec.name, spec.shape) for spec in taken.signature.inputs] == [("x", (None, 4))]
    session = onnxruntime.InferenceSession(taken.folder / taken.format.main_file)
    (y,) = session.run(None, {"x": np.full((2, 4), 0.5, np.float32)})
    assert y.tolist() == [[2.0] * 3] * 2, "the weights came with the model"


def test_what_is_no_upload_is_refused(tmp_path: Path) -> None:
    artifacts = LocalArtifacts(tmp_path / "store")
    with pytest.raises(InputError, match="holds 2 files"):
        uploaded_file(artifacts, stored(artifacts, tmp_path / "two", "a", "b"))
    with pytest.raises(ModelNotFound):
        uploaded_file(artifacts, "0" * 64)
