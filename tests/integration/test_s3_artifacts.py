"""What the S3 store does that a local folder cannot: caching, half-written trees, outages."""

from pathlib import Path

import pytest

from registry.digest import tree_digest, tree_manifest
from registry.errors import InputError, ModelNotFound, RegistryError, TransientError
from registry.store.artifacts_local import LocalArtifacts
from registry.store.artifacts_s3 import S3Artifacts
from registry.store.location import ArtifactLocation
from tests.integration.processes import end_tree, free_ports
from tests.servers import S3Server, start_s3

pytestmark = pytest.mark.usefixtures("s3_credentials")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    folder = tmp_path / "tree"
    (folder / "weights").mkdir(parents=True)
    (folder / "model.xml").write_text("<net/>")
    (folder / "weights" / "model.bin").write_bytes(b"\1" * 5000)
    return folder


@pytest.fixture
def bucket(s3_server: S3Server) -> str:
    return s3_server.bucket()


def connect(server: S3Server, bucket: str, cache: Path) -> S3Artifacts:
    return S3Artifacts.connect(f"s3://{bucket}", server.url, cache)


def test_a_damaged_cache_entry_is_fetched_again(s3_server: S3Server, bucket: str, tree: Path, tmp_path: Path) -> None:
    store = connect(s3_server, bucket, tmp_path / "cache")
    digest = store.put(tree)
    file = store.checkout(digest) / "weights" / "model.bin"
    file.chmod(0o644)
    file.write_bytes(b"\2" * 5000)
    assert tree_manifest(store.checkout(digest)) == tree_manifest(tree)


def test_who_finds_a_cache_entry_damaged_takes_no_repaired_one_away(
    s3_server: S3Server, bucket: str, tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, repaired = connect(s3_server, bucket, tmp_path / "cache"), list[int]()
    digest = store.put(tree)
    file = store.checkout(digest) / "weights" / "model.bin"
    file.chmod(0o644)
    file.write_bytes(b"\2" * 5000)
    look = LocalArtifacts.checkout

    def overtaken(self: LocalArtifacts, digest: str) -> Path:
        try:
            return look(self, digest)
        except RegistryError:  # found, and before anything follows from it another process repairs it
            monkeypatch.undo()
            repaired.append(connect(s3_server, bucket, tmp_path / "cache").checkout(digest).stat().st_ctime_ns)
            raise

    monkeypatch.setattr(LocalArtifacts, "checkout", overtaken)
    assert [store.checkout(digest).stat().st_ctime_ns] == repaired


def test_nothing_is_left_of_a_fetch_that_was_refused(
    s3_server: S3Server, bucket: str, tree: Path, tmp_path: Path
) -> None:
    digest = connect(s3_server, bucket, tmp_path / "cache").put(tree)
    (s3_server.data / bucket / "sha256" / digest / "model.xml").write_text("<evil/>")
    for _ in range(2):
        with pytest.raises(RegistryError, match=r"model\.xml has sha256"):
            connect(s3_server, bucket, tmp_path / "other").checkout(digest)
    assert [path for path in (tmp_path / "other").rglob("*") if path.is_file()] == []


def test_a_tree_without_its_manifest_does_not_exist(
    s3_server: S3Server, bucket: str, tree: Path, tmp_path: Path
) -> None:
    digest = connect(s3_server, bucket, tmp_path / "cache").put(tree)
    (s3_server.data / bucket / "sha256" / f"{digest}.json").unlink()
    store = connect(s3_server, bucket, tmp_path / "other")
    assert not store.exists(digest)
    with pytest.raises(ModelNotFound):
        store.checkout(digest)
    store.put(tree)
    assert store.exists(digest)


def test_a_manifest_of_other_content_is_refused(s3_server: S3Server, bucket: str, tree: Path, tmp_path: Path) -> None:
    digest = connect(s3_server, bucket, tmp_path / "cache").put(tree)
    manifest = s3_server.data / bucket / "sha256" / f"{digest}.json"
    for content in (b'{"../../../etc/passwd":"' + b"0" * 64 + b'"}', b"not json", b"[]"):
        manifest.write_bytes(content)
        with pytest.raises(RegistryError, match=f"manifest of artifact {digest} is damaged"):
            connect(s3_server, bucket, tmp_path / "other").checkout(digest)


def test_what_was_read_is_served_while_s3_is_down_and_the_rest_is_transient(tree: Path, tmp_path: Path) -> None:
    server = start_s3(tmp_path / "data")
    try:
        store = connect(server, server.bucket(), tmp_path / "cache")
        digest = store.put(tree)
    finally:
        end_tree(server.process)
    assert tree_digest(store.checkout(digest)) == digest
    (tree / "model.xml").write_text("<other/>")
    for call in (
        lambda: store.put(tree),
        lambda: store.exists(digest),
        lambda: store.size_bytes(digest),
        lambda: store.delete(digest),
        lambda: store.checkout("0" * 64),
    ):
        with pytest.raises(TransientError, match="did not answer"):
            call()


def test_a_bucket_that_is_not_there_is_named(s3_server: S3Server, tree: Path, tmp_path: Path) -> None:
    with pytest.raises(RegistryError, match=r"s3://no-such-bucket/sha256.*check the bucket's name"):
        connect(s3_server, "no-such-bucket", tmp_path / "cache").put(tree)


@pytest.mark.parametrize("url", ["", "bucket", "http://bucket", "s3:///prefix"])
def test_what_is_no_bucket_is_refused(url: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="s3://bucket/prefix"):
        S3Artifacts.connect(url, "", tmp_path)


def test_a_location_opens_the_store_it_names(s3_server: S3Server, bucket: str, tree: Path, tmp_path: Path) -> None:
    (port,) = free_ports(1)
    digest = connect(s3_server, bucket, tmp_path / "cache").put(tree)
    location = ArtifactLocation(folder=tmp_path / "other", url=f"s3://{bucket}", s3_endpoint_url=s3_server.url)
    again = ArtifactLocation.model_validate_json(location.model_dump_json())
    assert tree_digest(again.open().checkout(digest)) == digest
    elsewhere = again.model_copy(update={"s3_endpoint_url": f"http://127.0.0.1:{port}"})
    with pytest.raises(TransientError):
        elsewhere.open().exists(digest)
