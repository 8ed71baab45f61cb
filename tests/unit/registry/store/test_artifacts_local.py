"""What the local store does beyond the contract of every store: repair, and leaving nothing behind."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from registry.digest import tree_digest
from registry.errors import InputError, RegistryError
from registry.store.artifacts_local import LocalArtifacts


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    folder = tmp_path / "tree"
    folder.mkdir()
    (folder / "model.onnx").write_text("model")
    return folder


@pytest.fixture
def store(tmp_path: Path) -> LocalArtifacts:
    return LocalArtifacts(tmp_path / "store")


def damage(folder: Path) -> None:
    (folder / "model.onnx").chmod(0o644)
    (folder / "model.onnx").write_text("evil")


def test_putting_a_damaged_tree_again_repairs_it(store: LocalArtifacts, tree: Path) -> None:
    digest = store.put(tree)
    damage(store.checkout(digest))
    with pytest.raises(RegistryError, match=r"model\.onnx has sha256"):
        store.checkout(digest)
    assert store.put(tree) == digest
    assert tree_digest(store.checkout(digest)) == digest


def test_repairs_of_one_tree_at_once_all_succeed(
    store: LocalArtifacts, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process puts the tree in the moment in which this one has taken the damaged one away."""
    digest = store.put(tree)
    damage(store.checkout(digest))
    take_away = LocalArtifacts._move_away

    def overtaken(self: LocalArtifacts, digest: str) -> None:
        take_away(self, digest)
        LocalArtifacts(store.root).put(tree)

    monkeypatch.setattr(LocalArtifacts, "_move_away", overtaken)
    assert store.put(tree) == digest
    assert store.checkout(digest)


def test_a_repair_takes_no_other_repair_away(
    store: LocalArtifacts, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = store.put(tree)
    damage(store.checkout(digest))
    look, seen = LocalArtifacts._intact, list[bool]()

    def overtaken(self: LocalArtifacts, digest: str) -> bool:
        seen.append(look(self, digest))
        if len(seen) == 2:  # in the copy's way stands a damaged tree, and another process repairs it now
            monkeypatch.undo()
            LocalArtifacts(store.root).put(tree)
            repaired.append(store.checkout(digest).stat().st_ctime_ns)
        return seen[-1]

    repaired: list[int] = []
    monkeypatch.setattr(LocalArtifacts, "_intact", overtaken)
    assert store.put(tree) == digest
    assert repaired == [store.checkout(digest).stat().st_ctime_ns]


def test_a_tree_that_goes_while_it_is_looked_at_is_damaged(
    store: LocalArtifacts, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = store.put(tree)

    def gone(path: str) -> str:
        raise FileNotFoundError(path)

    monkeypatch.setattr("registry.digest.file_digest", gone)
    with pytest.raises(RegistryError, match=r"model\.onnx is missing"):
        store.checkout(digest)


def test_a_foreign_file_and_a_link_are_refused(store: LocalArtifacts, tree: Path) -> None:
    digest = store.put(tree)
    folder = store.checkout(digest)
    (folder / "extra.py").write_text("import os")
    with pytest.raises(RegistryError, match=r"extra\.py does not belong to it"):
        store.checkout(digest)
    (folder / "extra.py").unlink()
    (folder / "model.onnx").unlink()
    (folder / "model.onnx").symlink_to(tree / "model.onnx")
    with pytest.raises(RegistryError, match="is damaged"):
        store.checkout(digest)


def test_damage_is_found_when_the_manifest_is_gone_too(store: LocalArtifacts, tree: Path) -> None:
    digest = store.put(tree)
    folder = store.checkout(digest)
    folder.with_suffix(".json").unlink()
    assert store.checkout(digest) == folder
    damage(folder)
    with pytest.raises(RegistryError, match=digest):
        store.checkout(digest)


def test_a_tree_that_changes_while_it_is_copied_is_refused_and_leaves_nothing(
    store: LocalArtifacts, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = shutil.copytree

    def copy_and_change(source: Path, target: Path, **options: Any) -> None:  # noqa: ANN401
        (source / "model.onnx").write_text("another")
        copy(source, target, **options)

    monkeypatch.setattr(shutil, "copytree", copy_and_change)
    with pytest.raises(InputError, match="changed while it was stored"):
        store.put(tree)
    assert [path for path in store.root.rglob("*") if path.is_file()] == []


def test_no_copy_is_left_behind(store: LocalArtifacts, tree: Path) -> None:
    digest = store.put(tree)
    damage(store.checkout(digest))
    store.put(tree)
    store.delete(digest)
    assert [path.name for path in store.root.rglob("*") if path.is_file()] == ["repairs.lock"]
