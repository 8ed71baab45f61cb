import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from flows.api_app import build_app
from registry.store.artifacts_local import LocalArtifacts
from tests.unit.flows.api_stack import fake_stack

BOUND = 1000


@pytest.fixture
def api(tmp_path: Path) -> Iterator[TestClient]:
    with TestClient(build_app(fake_stack(tmp_path, max_upload_bytes=BOUND).platform)) as client:
        yield client


def stored(home: Path) -> list[Path]:
    return [path for path in (home / "artifacts").rglob("*") if path.is_file()]


def left_behind(home: Path) -> list[Path]:
    return list((home / "work" / "uploads").iterdir())


def test_upload_is_kept_by_content_as_a_tree_of_one_file(api: TestClient, tmp_path: Path) -> None:
    body = b"x" * BOUND
    sha256 = hashlib.sha256(body).hexdigest()
    answer = api.put("/v1/artifacts/model.pt2", content=body, headers={"x-content-sha256": sha256})
    assert answer.status_code == 200
    folder = LocalArtifacts(tmp_path / "artifacts").checkout(answer.json()["digest"])
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {"model.pt2": body}
    assert left_behind(tmp_path) == []
    again = api.put("/v1/artifacts/model.pt2", content=body)
    assert again.json() == answer.json()


@pytest.mark.parametrize("declared", [True, False], ids=["with a length", "streamed"])
def test_upload_beyond_the_bound_is_413_and_nothing_is_kept(api: TestClient, tmp_path: Path, declared: bool) -> None:
    body = b"x" * (BOUND + 1)
    answer = api.put("/v1/artifacts/model.onnx", content=body if declared else iter([body[:BOUND], body[BOUND:]]))
    assert answer.status_code == 413
    assert answer.headers["content-type"] == "application/problem+json"
    assert str(BOUND) in answer.json()["detail"]
    assert stored(tmp_path) == []


@pytest.mark.parametrize(
    ("filename", "body", "sha256"),
    [
        ("model.pt2", b"some bytes", "0" * 64),
        ("model.pt2", b"some bytes", "not a digest"),
        ("model.pt2", b"", None),
        ("model.pkl", b"some bytes", None),
        ("..%2Fmodel.pt2", b"some bytes", None),
    ],
)
def test_refused_upload_leaves_nothing(
    api: TestClient, tmp_path: Path, filename: str, body: bytes, sha256: str | None
) -> None:
    headers = {"x-content-sha256": sha256} if sha256 else {}
    answer = api.put(f"/v1/artifacts/{filename}", content=body, headers=headers)
    assert answer.status_code in (404, 422)
    assert answer.json()["status"] == answer.status_code
    assert stored(tmp_path) == []


def test_uploads_cut_off_with_their_process_are_swept_at_start(tmp_path: Path) -> None:
    rest = tmp_path / "work" / "uploads" / "dead" / "model.pt2"
    rest.parent.mkdir(parents=True)
    rest.write_bytes(b"half")
    with TestClient(build_app(fake_stack(tmp_path).platform)):
        assert not rest.exists()
