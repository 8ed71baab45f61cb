import hashlib
import io
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from types import SimpleNamespace

import anyio
import numpy as np
import pytest
from fastapi.testclient import TestClient

from flows.api_app import build_app
from flows.upload_intake import receive
from registry.store.artifacts_local import LocalArtifacts
from tests.unit.flows.api_stack import fake_stack
from tests.unit.registry.uploads.models import WEIGHTS, bundle, model
from tests.unit.registry.uploads.zips import zipped

BOUND = 1000
MODEL = model().SerializeToString()


@pytest.fixture
def api(tmp_path: Path) -> Iterator[TestClient]:
    with TestClient(build_app(fake_stack(tmp_path, upload_max_bytes=BOUND).platform)) as client:
        yield client


def stored(home: Path) -> list[Path]:
    return [path for path in (home / "artifacts").rglob("*") if path.is_file()]


def left_behind(home: Path) -> list[Path]:
    return list((home / "work" / "uploads").glob("*"))


def test_upload_is_kept_by_content_as_a_tree_of_one_file(api: TestClient, tmp_path: Path) -> None:
    sha256 = hashlib.sha256(MODEL).hexdigest()
    answer = api.put("/v1/artifacts/model.onnx", content=MODEL, headers={"x-content-sha256": sha256})
    assert answer.status_code == 200
    folder = LocalArtifacts(tmp_path / "artifacts").checkout(answer.json()["digest"])
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {"model.onnx": MODEL}
    assert left_behind(tmp_path) == []
    files = stored(tmp_path)
    again = api.put("/v1/artifacts/model.onnx", content=MODEL)
    assert again.json() == answer.json()
    assert stored(tmp_path) == files


def test_a_bundle_is_kept_as_the_model_and_its_weights(api: TestClient, tmp_path: Path) -> None:
    answer = api.put("/v1/artifacts/model.zip", content=bundle())
    folder = LocalArtifacts(tmp_path / "artifacts").checkout(answer.json()["digest"])
    assert sorted(path.name for path in folder.iterdir()) == ["model.onnx", WEIGHTS]
    assert left_behind(tmp_path) == []


def test_a_set_is_kept(api: TestClient) -> None:
    buffer = io.BytesIO()
    np.savez(buffer, x=np.ones((3, 4), np.float32))
    assert api.put("/v1/artifacts/evaluation.npz", content=buffer.getvalue()).status_code == 200


@pytest.mark.parametrize("declared", [True, False], ids=["with a length", "streamed"])
def test_upload_beyond_the_bound_is_413_and_nothing_is_kept(api: TestClient, tmp_path: Path, declared: bool) -> None:
    body = b"x" * (BOUND + 1)
    answer = api.put("/v1/artifacts/model.onnx", content=body if declared else iter([body[:BOUND], body[BOUND:]]))
    assert answer.status_code == 413
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["connection"] == "close"
    assert str(BOUND) in answer.json()["detail"]
    assert (stored(tmp_path), left_behind(tmp_path)) == ([], [])


@pytest.mark.parametrize(
    ("filename", "body", "sha256", "said"),
    [
        ("model.onnx", MODEL, "0" * 64, "arrived with sha256"),
        ("model.onnx", MODEL, "not a digest", "x-content-sha256"),
        ("model.onnx", b"", None, "is empty"),
        ("model.onnx", b"some bytes", None, "not an ONNX model"),
        ("model.onnx", model(location="../w").SerializeToString(), None, "'w' lies in another file, '../w'"),
        ("model.pt2", b"some bytes", None, "not a whole zip archive"),
        ("model.pt2", zipped({"../evil": b"x"}), None, "'../evil' has a name that leads out"),
        ("model.zip", bundle({"../w": b""}), None, "leads out"),
        ("model.zip", bundle({}), None, "not in the archive"),
        ("evaluation.npz", zipped({"x.npy": b"\x80\x04."}), None, "'x.npy' is not an array"),
        ("evaluation.parquet", b"PAR1", None, "not a whole Parquet file"),
        ("model.pkl", b"some bytes", None, "path.filename"),
        ("..%2Fmodel.pt2", b"some bytes", None, ""),
    ],
)
def test_refused_upload_says_why_and_leaves_nothing(
    api: TestClient, tmp_path: Path, filename: str, body: bytes, sha256: str | None, said: str
) -> None:
    headers = {"x-content-sha256": sha256} if sha256 else {}
    answer = api.put(f"/v1/artifacts/{filename}", content=body, headers=headers)
    assert answer.status_code == (422 if said else 404)
    assert answer.headers["content-type"] == "application/problem+json"
    assert said in answer.json()["detail"]
    assert (stored(tmp_path), left_behind(tmp_path)) == ([], [])


def test_an_upload_that_has_no_room_is_507_before_it_is_read(
    api: TestClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file and the artifact that is made of it both need their room."""
    usage = SimpleNamespace(total=0, free=2 * len(MODEL) - 1)
    monkeypatch.setattr("registry.disk_space.shutil.disk_usage", lambda _: usage)
    answer = api.put("/v1/artifacts/model.onnx", content=MODEL)
    assert (answer.status_code, answer.json()["type"]) == (507, "urn:burnish:insufficient-storage")
    assert (stored(tmp_path), left_behind(tmp_path)) == ([], [])
    usage.free += 1
    assert api.put("/v1/artifacts/model.onnx", content=MODEL).status_code == 200


class CutRequest:
    """A request whose client goes, or falls silent, after some bytes."""

    def __init__(self, *, silent: bool) -> None:
        self.silent = silent
        self.sent = False

    async def receive(self) -> dict[str, object]:
        if not self.sent:
            self.sent = True
            return {"type": "http.request", "body": MODEL[:50], "more_body": True}
        if self.silent:
            await anyio.sleep(60)
        return {"type": "http.disconnect"}


@pytest.mark.parametrize("silent", [False, True], ids=["connection cut", "client silent"])
def test_an_upload_that_breaks_off_leaves_nothing(tmp_path: Path, silent: bool) -> None:
    app = build_app(fake_stack(tmp_path, upload_idle_seconds=0.05 if silent else 60).platform)
    answers: list[dict[str, object]] = []
    scope = {
        "type": "http",
        "method": "PUT",
        "path": "/v1/artifacts/model.onnx",
        "raw_path": b"/v1/artifacts/model.onnx",
        "query_string": b"",
        "headers": [(b"content-length", str(len(MODEL)).encode())],
        "http_version": "1.1",
        "scheme": "http",
        "server": ("testserver", 80),
        "client": ("testclient", 1),
        "root_path": "",
    }

    async def send(message: dict[str, object]) -> None:
        answers.append(message)

    anyio.run(app, scope, CutRequest(silent=silent).receive, send)  # type: ignore[arg-type]
    assert answers[0]["status"] == (408 if silent else 422)
    assert (stored(tmp_path), left_behind(tmp_path)) == ([], [])


def test_a_body_is_written_as_it_comes_and_never_held(tmp_path: Path) -> None:
    """When a chunk is asked for, all chunks before it are in the file."""
    target = tmp_path / "part"
    seen: list[int] = []

    class Body:
        async def stream(self) -> AsyncIterator[bytes]:
            for _ in range(20):
                seen.append(target.stat().st_size)
                yield bytes(2**16)

    anyio.run(lambda: receive(Body(), target, most=2**30, idle_s=9))  # type: ignore[arg-type]
    assert seen == [number * 2**16 for number in range(20)]


def test_uploads_cut_off_with_their_process_are_swept_at_start(tmp_path: Path) -> None:
    rest = tmp_path / "work" / "uploads" / "dead" / "model.pt2"
    rest.parent.mkdir(parents=True)
    rest.write_bytes(b"half")
    with TestClient(build_app(fake_stack(tmp_path).platform)):
        assert not rest.exists()
