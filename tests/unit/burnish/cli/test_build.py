import json
from pathlib import Path

import pytest

from burnish.cli import build as command
from burnish.cli.main import run
from flows import wiring
from flows.settings import StackSettings
from registry.records.change import Promote
from registry.records.model import ModelVersion
from registry.store.artifacts_local import LocalArtifacts
from registry.store.memory import MemoryStore
from tests.drafts import change
from tests.integration.versions import registered, write_model


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, Path, Path]]:
    """Two versions of the model `tiny`, the first of them live; collects what Bentos are asked for."""
    monkeypatch.setenv("BURNISH_HOME", str(tmp_path))
    settings = StackSettings()
    write_model(tmp_path / "model")
    LocalArtifacts(settings.artifacts_folder).put(tmp_path / "model")
    store = MemoryStore()
    ledger = wiring.ledger(settings)
    for number in (1, 2):
        draft = registered("tiny", number, tmp_path / "model").draft
        version = store.register(draft.model_copy(update={"optimization_id": f"{number:032d}"}))
        ledger.admit("tiny", version.served)
    ledger.change_route(change(Promote(version=1), model="tiny", actor="test", reason="test"))
    ledger.close()
    calls: list[tuple[int, Path, Path]] = []

    def build_bento(version: ModelVersion, artifact_folder: Path, bento_home: Path) -> str:
        calls.append((version.version, artifact_folder, bento_home))
        return f"tiny:v{version.version}"

    monkeypatch.setattr(wiring, "model_store", lambda _: store)
    monkeypatch.setattr(command, "build_bento", build_bento)
    return calls


def test_without_a_version_the_live_one_is_built(
    asked: list[tuple[int, Path, Path]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["build", "tiny", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"tag": "tiny:v1", "bentoml_home": str(tmp_path / "bento")}
    ((version, artifact, home),) = asked
    assert (version, home) == (1, tmp_path / "bento")
    assert (artifact / "model.onnx").read_bytes() == (tmp_path / "model" / "model.onnx").read_bytes()


def test_a_version_can_be_named_and_the_answer_says_how_to_serve_it(
    asked: list[tuple[int, Path, Path]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["build", "tiny", "--version", "2"]) == 0
    assert f"BENTOML_HOME={tmp_path / 'bento'} bentoml serve tiny:v2" in capsys.readouterr().out
    assert [version for version, _, _ in asked] == [2]


@pytest.mark.parametrize("arguments", [["other"], ["tiny", "--version", "9"]])
def test_what_does_not_exist_is_3_and_builds_nothing(
    asked: list[tuple[int, Path, Path]], arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["build", *arguments]) == 3
    assert arguments[0] in capsys.readouterr().err
    assert not asked
