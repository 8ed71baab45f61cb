"""Every model store numbers versions, reads them back equal, and keeps aliases and attachments."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from uuid import uuid4

import pytest

from registry.errors import ModelNotFound
from registry.store.base import CHALLENGER, CHAMPION, ModelStore
from registry.store.location import ArtifactLocation
from registry.store.memory import MemoryStore
from registry.store.mlflow import MlflowStore
from tests.drafts import draft


@pytest.fixture(scope="session")
def mlflow_database(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"sqlite:///{tmp_path_factory.mktemp('mlflow-database')}/mlflow.db"


@pytest.fixture(params=["memory", "mlflow_database", "mlflow_url"])
def store(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModelStore:
    if request.param == "memory":
        return MemoryStore()
    monkeypatch.chdir(tmp_path)  # without a server MLflow keeps files in ./mlruns
    return MlflowStore(request.getfixturevalue(request.param), ArtifactLocation(folder=tmp_path / "artifacts"))


@pytest.fixture
def name() -> str:
    """A model name that no other test uses."""
    return f"model-{uuid4().hex}"


def test_versions_are_numbered_and_read_back_equal(store: ModelStore, name: str) -> None:
    first, second = store.register(draft(name, "one")), store.register(draft(name, "two"))
    assert (first.version, second.version) == (1, 2)
    assert (first.draft, second.draft) == (draft(name, "one"), draft(name, "two"))
    assert first.created_at.tzinfo is not None
    assert store.versions(name) == (first, second)
    assert store.version(name, 2) == second


def test_one_optimization_registers_one_version(store: ModelStore, name: str) -> None:
    first = store.register(draft(name, "one"))
    assert store.register(draft(name, "one")) == first
    assert store.versions(name) == (first,)
    assert store.register(draft(f"{name}-b", "one")).version == 1


def test_a_record_of_any_size_reads_back_equal(store: ModelStore, name: str) -> None:
    large = draft(name, "large", libraries=6000)
    assert store.register(large).draft == large
    assert store.version(name, 1).draft == large
    assert store.versions(name)[0].draft == large


def test_registrations_at_once_lose_nothing(store: ModelStore, name: str) -> None:
    ids = [f"optimization-{number}" for number in range(6)]
    with ThreadPoolExecutor(3) as pool:
        made = list(pool.map(lambda each: store.register(draft(name, each)), ids))
    assert sorted(version.version for version in made) == [1, 2, 3, 4, 5, 6]
    assert {version.draft.optimization_id for version in store.versions(name)} == set(ids)


def test_one_optimization_registered_at_once_is_one_version(store: ModelStore, name: str) -> None:
    with ThreadPoolExecutor(3) as pool:
        made = list(pool.map(lambda _: store.register(draft(name, "one")), range(3)))
    assert made[0] == made[1] == made[2]
    assert store.versions(name) == (made[0],)


def test_models_are_sorted(store: ModelStore, name: str) -> None:
    for suffix in ("-b", "-a"):
        store.register(draft(name + suffix, "one"))
    assert [found for found in store.models() if found.startswith(name)] == [f"{name}-a", f"{name}-b"]


def test_what_is_not_there_is_not_found(store: ModelStore, name: str, tmp_path: Path) -> None:
    assert (store.versions(name), store.alias(name, CHAMPION)) == ((), None)
    store.register(draft(f"{name}-b", "one"))
    for model, number in ((name, 1), (f"{name}-b", 2)):
        with pytest.raises(ModelNotFound, match=f"version {number} of '{model}'"):
            store.version(model, number)
        with pytest.raises(ModelNotFound):
            store.set_alias(model, CHAMPION, number)
        with pytest.raises(ModelNotFound):
            store.attach(model, number, "drift", tmp_path)
        assert store.alias(model, CHAMPION) is None


def test_an_alias_moves_and_can_be_removed(store: ModelStore, name: str) -> None:
    for each in ("one", "two"):
        store.register(draft(name, each))
    store.set_alias(name, CHAMPION, 1)
    store.set_alias(name, CHALLENGER, 2)
    assert (store.alias(name, CHAMPION), store.alias(name, CHALLENGER)) == (1, 2)
    store.set_alias(name, CHAMPION, 2)
    store.set_alias(name, CHALLENGER, None)
    store.set_alias(name, CHALLENGER, None)
    assert (store.alias(name, CHAMPION), store.alias(name, CHALLENGER)) == (2, None)


def test_attaching_a_folder_leaves_the_version_as_it_is(store: ModelStore, name: str, tmp_path: Path) -> None:
    version = store.register(draft(name, "one"))
    (tmp_path / "report").mkdir()
    (tmp_path / "report" / "drift.html").write_text("<p>no drift</p>")
    for _ in range(2):
        store.attach(name, 1, "drift-2026-11", tmp_path / "report")
    assert store.version(name, 1) == version
