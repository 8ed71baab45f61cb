"""The composition root builds what the settings name."""

from pathlib import Path

import pytest

from flows import wiring
from flows.settings import StackSettings
from registry.errors import InputError
from registry.store.artifacts_local import LocalArtifacts
from registry.store.artifacts_s3 import S3Artifacts
from registry.store.mlflow import MlflowStore


def test_a_laptop_keeps_everything_in_its_home(tmp_path: Path) -> None:
    settings = StackSettings(home=tmp_path / "home")
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "file").touch()
    store = wiring.artifacts(settings)
    assert isinstance(store, LocalArtifacts)
    assert store.checkout(store.put(tmp_path / "tree")).is_relative_to(settings.artifacts_folder)
    ledger = wiring.ledger(settings)
    assert ledger.models() == ()
    ledger.close()
    assert (tmp_path / "home" / "ledger.db").is_file()


def test_a_bucket_is_read_through_the_artifacts_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    settings = StackSettings(home=tmp_path, artifacts_url="s3://bucket/prefix", s3_endpoint_url="http://127.0.0.1:9")
    assert isinstance(wiring.artifacts(settings), S3Artifacts)
    assert wiring.artifact_location(settings).folder == settings.artifacts_folder
    with pytest.raises(InputError, match="s3://bucket/prefix"):
        wiring.artifacts(StackSettings(home=tmp_path, artifacts_url="bucket"))


def test_the_model_store_is_made_without_asking_mlflow(tmp_path: Path) -> None:
    assert isinstance(wiring.model_store(StackSettings(home=tmp_path, mlflow_port=9)), MlflowStore)
