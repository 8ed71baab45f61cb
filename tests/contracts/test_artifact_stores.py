"""Every artifact store keeps trees by content and never hands out other bytes than were put."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from registry.digest import tree_digest, tree_manifest
from registry.errors import InputError, ModelNotFound, RegistryError
from registry.store.artifacts_local import LocalArtifacts
from registry.store.artifacts_s3 import S3Artifacts
from registry.store.base import ArtifactStore
from tests.servers import S3Server

ABSENT = "0" * 64


@dataclass(frozen=True)
class Subject:
    """A store, a way to open it anew (another host's view of it), and where it keeps a file of a tree."""

    store: ArtifactStore
    reopen: Callable[[], ArtifactStore]
    stored_file: Callable[[str, str], Path]


def _local(folder: Path) -> Subject:
    root = folder / "store"

    def stored_file(digest: str, name: str) -> Path:
        return root / "sha256" / digest[:2] / digest / name

    return Subject(LocalArtifacts(root), lambda: LocalArtifacts(root), stored_file)


def _s3(folder: Path, server: S3Server) -> Subject:
    bucket = server.bucket()
    caches = iter(folder / f"cache-{number}" for number in range(10))

    def reopen() -> ArtifactStore:
        return S3Artifacts.connect(f"s3://{bucket}/some/prefix", server.url, next(caches))

    def stored_file(digest: str, name: str) -> Path:
        return server.data / bucket / "some/prefix/sha256" / digest / name

    return Subject(reopen(), reopen, stored_file)


@pytest.fixture(params=["local", "s3"])
def subject(request: pytest.FixtureRequest, tmp_path: Path) -> Subject:
    if request.param == "local":
        return _local(tmp_path)
    request.getfixturevalue("s3_credentials")
    return _s3(tmp_path, request.getfixturevalue("s3_server"))


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    folder = tmp_path / "tree"
    (folder / "sub folder").mkdir(parents=True)
    (folder / "model.onnx").write_bytes(bytes(range(256)) * 1000)
    (folder / "sub folder" / "größe #1.txt").write_text("small")
    (folder / "empty").touch()
    return folder


def _overwrite(path: Path, content: bytes) -> None:
    path.chmod(0o644)
    path.write_bytes(content)


def test_a_tree_comes_back_under_its_digest(subject: Subject, tree: Path) -> None:
    digest = subject.store.put(tree)
    assert digest == tree_digest(tree)
    assert subject.store.exists(digest)
    for store in (subject.store, subject.reopen()):
        assert tree_manifest(store.checkout(digest)) == tree_manifest(tree)
        assert store.size_bytes(digest) == 256_000 + len("small")


def test_putting_a_tree_again_changes_nothing(subject: Subject, tree: Path) -> None:
    digest = subject.store.put(tree)
    kept = subject.stored_file(digest, "model.onnx").stat().st_mtime_ns
    assert subject.store.put(tree) == digest
    assert subject.stored_file(digest, "model.onnx").stat().st_mtime_ns == kept


def test_the_stored_tree_does_not_follow_its_origin(subject: Subject, tree: Path) -> None:
    digest = subject.store.put(tree)
    (tree / "model.onnx").write_bytes(b"changed")
    assert (subject.store.checkout(digest) / "model.onnx").stat().st_size == 256_000
    assert subject.store.put(tree) != digest


def test_puts_of_one_tree_at_once_all_succeed(subject: Subject, tree: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        digests = {future.result() for future in [pool.submit(subject.store.put, tree) for _ in range(8)]}
    assert digests == {tree_digest(tree)}
    assert tree_manifest(subject.reopen().checkout(digests.pop())) == tree_manifest(tree)


def test_files_of_a_checkout_are_read_only(subject: Subject, tree: Path) -> None:
    folder = subject.store.checkout(subject.store.put(tree))
    modes = {path.stat().st_mode & 0o777 for path in folder.rglob("*") if path.is_file()}
    assert modes == {0o444}


@pytest.mark.parametrize("name", ["model.onnx", "sub folder/größe #1.txt", "empty"])
def test_damaged_bytes_are_refused_by_file_name(subject: Subject, tree: Path, name: str) -> None:
    digest = subject.store.put(tree)
    _overwrite(subject.stored_file(digest, name), b"evil")
    with pytest.raises(RegistryError, match=name) as caught:
        subject.reopen().checkout(digest)
    assert digest in str(caught.value)


def test_a_missing_file_is_refused_by_name(subject: Subject, tree: Path) -> None:
    digest = subject.store.put(tree)
    subject.stored_file(digest, "model.onnx").unlink()
    with pytest.raises(RegistryError, match=r"model\.onnx is missing") as caught:
        subject.reopen().checkout(digest)
    assert not isinstance(caught.value, ModelNotFound)


def test_an_unknown_digest_is_not_found(subject: Subject) -> None:
    assert not subject.store.exists(ABSENT)
    with pytest.raises(ModelNotFound, match=ABSENT):
        subject.store.checkout(ABSENT)
    with pytest.raises(ModelNotFound, match=ABSENT):
        subject.store.size_bytes(ABSENT)


@pytest.mark.parametrize("digest", ["", "..", "../../etc", "A" * 64, "0" * 63, "0" * 64 + "\n"])
def test_what_is_no_digest_is_refused(subject: Subject, digest: str) -> None:
    for call in (subject.store.checkout, subject.store.exists, subject.store.size_bytes, subject.store.delete):
        with pytest.raises(InputError, match="sha256"):
            call(digest)


def test_an_empty_folder_and_a_link_are_refused(subject: Subject, tree: Path, tmp_path: Path) -> None:
    (tmp_path / "nothing").mkdir()
    with pytest.raises(InputError, match="no file"):
        subject.store.put(tmp_path / "nothing")
    (tree / "link").symlink_to("/etc/passwd")
    with pytest.raises(InputError, match="link"):
        subject.store.put(tree)


def test_a_deleted_tree_is_gone_and_can_be_put_again(subject: Subject, tree: Path) -> None:
    digest = subject.store.put(tree)
    subject.store.delete(digest)
    subject.store.delete(digest)
    assert not subject.store.exists(digest)
    with pytest.raises(ModelNotFound):
        subject.store.checkout(digest)
    subject.store.put(tree)
    assert tree_manifest(subject.reopen().checkout(digest)) == tree_manifest(tree)
