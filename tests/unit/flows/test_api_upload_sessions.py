"""Resumable uploads: tus 1.0.0 as its specification says, and what an upload becomes."""

import base64
import hashlib
import math
import os
import shutil
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from flows.api_app import build_app
from flows.upload_sessions import UploadSessions
from registry.errors import StorageFull, TransientError
from registry.records.tenant import Quotas
from registry.store.artifacts_local import LocalArtifacts
from tests.unit.flows.api_stack import FakeStack, fake_stack
from tests.unit.registry.uploads.models import bundle, model

MODEL = model().SerializeToString()
SHA256 = hashlib.sha256(MODEL).hexdigest()
BOUND = 1000


@pytest.fixture
def stack(tmp_path: Path) -> FakeStack:
    return fake_stack(tmp_path, upload_max_bytes=BOUND, upload_open=2, upload_expiry_seconds=100)


@pytest.fixture
def api(stack: FakeStack) -> Iterator[TestClient]:
    with TestClient(build_app(stack.platform), headers={"tus-resumable": "1.0.0"}) as client:
        yield client


def metadata(**values: str) -> str:
    return ",".join(f"{key} {base64.b64encode(value.encode()).decode()}" for key, value in values.items())


def begin(
    api: TestClient, size: int = len(MODEL), filename: str = "model.onnx", tenant: str = "default", **more: str
) -> Any:  # noqa: ANN401
    headers = {"upload-length": str(size), "upload-metadata": metadata(filename=filename, **more)}
    return api.post("/v1/uploads", params={"tenant": tenant}, headers=headers)


def send(api: TestClient, url: str, offset: int, body: bytes, **headers: str) -> Any:  # noqa: ANN401
    own = {"upload-offset": str(offset), "content-type": "application/offset+octet-stream"}
    return api.patch(
        url, content=body, headers=own | {name.replace("_", "-"): value for name, value in headers.items()}
    )


def sessions(home: Path) -> list[Path]:
    return list((home / "work" / "uploads").glob("*"))


def test_an_upload_in_parts_becomes_the_artifact_that_one_request_makes(api: TestClient, tmp_path: Path) -> None:
    begun = begin(api, sha256=SHA256)
    url = begun.headers["location"]
    assert (begun.status_code, begun.headers["tus-resumable"]) == (201, "1.0.0")
    first = send(api, url, 0, MODEL[:70])
    assert (first.status_code, first.headers["upload-offset"]) == (204, "70")
    stand = api.head(url)
    assert (stand.status_code, stand.headers["upload-offset"], stand.headers["upload-length"]) == (
        200,
        "70",
        str(len(MODEL)),
    )
    assert stand.headers["cache-control"] == "no-store"
    assert "x-burnish-artifact" not in stand.headers
    last = send(api, url, 70, MODEL[70:])
    assert last.status_code == 204
    digest = last.headers["x-burnish-artifact"]
    assert digest == api.put("/v1/artifacts/model.onnx", content=MODEL).json()["digest"]
    (folder,) = sessions(tmp_path)
    assert [path.name for path in folder.iterdir()] == ["session.json"]
    for answer in (api.head(url), send(api, url, len(MODEL), b"")):
        assert (answer.headers["upload-offset"], answer.headers["x-burnish-artifact"]) == (str(len(MODEL)), digest)


def test_of_uploads_that_begin_at_once_no_more_are_open_than_may_be(
    api: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    count = UploadSessions._open

    def counted(self: UploadSessions, tenant: str) -> int:
        found = count(self, tenant)
        time.sleep(0.1)  # as long as the next one needs to count too
        return found

    monkeypatch.setattr(UploadSessions, "_open", counted)
    with ThreadPoolExecutor(4) as pool:
        statuses = [one.result().status_code for one in [pool.submit(begin, api) for _ in range(4)]]
    assert sorted(statuses) == [201, 201, 429, 429]


def test_what_another_request_has_just_removed_is_not_there(api: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    url = begin(api).headers["location"]
    assert api.delete(url).status_code == 204
    with monkeypatch.context() as a_moment_ago:
        a_moment_ago.setattr(Path, "is_file", lambda _: True)
        a_moment_ago.setattr(UploadSessions, "_expires_at", lambda *_: math.inf)
        assert api.head(url).status_code == 404


def test_what_was_half_removed_when_the_process_died_is_not_there(
    api: TestClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = begin(api).headers["location"]
    with monkeypatch.context() as dying:
        dying.setattr(shutil, "rmtree", lambda folder, **_: (folder / "part").unlink())
        assert api.delete(url).status_code == 204
    assert api.head(url).status_code == 404


def test_what_is_offered(api: TestClient) -> None:
    answer = api.options("/v1/uploads")
    assert answer.status_code == 204
    assert answer.headers["tus-version"] == "1.0.0"
    assert answer.headers["tus-extension"] == "creation,expiration,checksum,termination"
    assert answer.headers["tus-max-size"] == str(BOUND)
    assert answer.headers["tus-checksum-algorithm"] == "sha1,sha256"


def test_another_version_is_412(api: TestClient) -> None:
    answer = api.post("/v1/uploads", headers={"tus-resumable": "0.2.2", "upload-length": "1", "upload-metadata": "a"})
    assert (answer.status_code, answer.headers["tus-version"]) == (412, "1.0.0")


@pytest.mark.parametrize(
    ("headers", "status", "said"),
    [
        ({"upload-length": "10000000000"}, 413, "at most 1000 bytes"),
        ({"upload-length": "0"}, 422, "upload-length"),
        ({"upload-length": "-5"}, 422, "upload-length"),
        ({"upload-length": "many"}, 422, "upload-length"),
        ({"upload-metadata": "filename"}, 422, "filename is ''"),
        ({"upload-metadata": "filename ????"}, 422, "not text in base64"),
        ({"upload-metadata": metadata(filename="../../etc/passwd")}, 422, "expected one of model.pt2"),
        ({"upload-metadata": metadata(filename="model.pkl")}, 422, "expected one of model.pt2"),
        ({"upload-metadata": metadata(sha256=SHA256)}, 422, "filename is ''"),
        ({"upload-metadata": metadata(filename="model.onnx", sha256="ABC")}, 422, "64 lowercase hex"),
        ({"upload-metadata": metadata(filename="model.onnx") + "," + metadata(filename="a")}, 422, "stands twice"),
    ],
)
def test_what_cannot_be_begun(api: TestClient, tmp_path: Path, headers: dict[str, str], status: int, said: str) -> None:
    own = {"upload-length": "10", "upload-metadata": metadata(filename="model.onnx")}
    answer = api.post("/v1/uploads", headers=own | headers)
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")
    assert said in answer.json()["detail"]
    assert answer.headers["tus-resumable"] == "1.0.0"
    assert sessions(tmp_path) == []


def test_a_part_must_begin_where_the_last_one_ended(api: TestClient) -> None:
    url = begin(api).headers["location"]
    send(api, url, 0, MODEL[:50])
    for offset in (0, 49, 51, 10**12):
        answer = send(api, url, offset, MODEL[50:])
        assert (answer.status_code, answer.headers["tus-resumable"]) == (409, "1.0.0")
        assert "50 bytes have come" in answer.json()["detail"]
    assert api.head(url).headers["upload-offset"] == "50"


def test_a_part_beyond_the_length_is_413_and_what_came_before_stays(api: TestClient) -> None:
    url = begin(api).headers["location"]
    send(api, url, 0, MODEL[:50])
    for body in (MODEL, iter([MODEL[50:], b"more"])):
        assert send(api, url, 50, body).status_code == 413  # type: ignore[arg-type]
        offset = int(api.head(url).headers["upload-offset"])
        assert 50 <= offset <= len(MODEL)
    assert send(api, url, offset, MODEL[offset:]).headers["x-burnish-artifact"]


def test_a_part_of_another_type_is_415(api: TestClient) -> None:
    url = begin(api).headers["location"]
    assert send(api, url, 0, MODEL, content_type="application/json").status_code == 415


@pytest.mark.parametrize("algorithm", ["sha1", "sha256"])
def test_a_part_with_a_checksum_is_taken_whole_or_not_at_all(api: TestClient, algorithm: str) -> None:
    url = begin(api).headers["location"]
    right = base64.b64encode(hashlib.new(algorithm, MODEL[:50]).digest()).decode()
    damaged = send(api, url, 0, b"x" + MODEL[1:50], upload_checksum=f"{algorithm} {right}")
    assert (damaged.status_code, damaged.json()["type"]) == (460, "urn:burnish:checksum-mismatch")
    assert api.head(url).headers["upload-offset"] == "0"
    assert send(api, url, 0, MODEL[:50], upload_checksum=f"{algorithm} {right}").headers["upload-offset"] == "50"
    assert send(api, url, 50, MODEL[50:], upload_checksum="md5 abc").status_code == 400


@pytest.mark.parametrize(
    ("body", "more", "said"),
    [
        (MODEL, {"sha256": "0" * 64}, "arrived with sha256"),
        (b"x" * 100, {}, "not an ONNX model"),
        (bundle({}), {"filename": "model.zip"}, "not in the archive"),
    ],
)
def test_an_upload_that_is_refused_at_its_end_leaves_nothing(
    api: TestClient, tmp_path: Path, body: bytes, more: dict[str, str], said: str
) -> None:
    url = begin(api, len(body), **more).headers["location"]
    answer = send(api, url, 0, body)
    assert (answer.status_code, answer.headers["content-type"]) == (422, "application/problem+json")
    assert said in answer.json()["detail"]
    assert sessions(tmp_path) == []
    assert api.head(url).status_code == 404


def test_an_upload_that_unpacks_beyond_the_quota_leaves_nothing(
    api: TestClient, stack: FakeStack, tmp_path: Path
) -> None:
    url = begin(api).headers["location"]
    stack.platform.ledger.tenants.set_quotas("default", Quotas(stored_bytes=1))
    answer = send(api, url, 0, MODEL)
    assert (answer.status_code, sessions(tmp_path)) == (403, [])
    assert "the quota stored_bytes" in answer.json()["detail"]


def test_an_idempotency_key_is_of_one_upload(api: TestClient) -> None:
    own = {"Idempotency-Key": "one", "upload-length": "10", "upload-metadata": metadata(filename="model.onnx")}
    first, again = (api.post("/v1/uploads", headers=own) for _ in range(2))
    assert (first.status_code, again.headers["location"]) == (201, first.headers["location"])
    for other in ({"upload-length": "20"}, {"upload-metadata": metadata(filename="model.pt2")}):
        assert api.post("/v1/uploads", headers=own | other).json()["type"] == "urn:burnish:idempotency-key-reused"


@pytest.mark.parametrize("failure", [StorageFull("full"), TransientError("S3 did not answer")])
def test_a_full_disk_ends_an_upload_and_a_store_that_is_away_does_not(
    api: TestClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failure: Exception
) -> None:
    def put(_: LocalArtifacts, folder: Path) -> str:
        raise failure

    url = begin(api).headers["location"]
    with monkeypatch.context() as patched:
        patched.setattr(LocalArtifacts, "put", put)
        answer = send(api, url, 0, MODEL)
    if isinstance(failure, StorageFull):
        assert (answer.status_code, sessions(tmp_path)) == (507, [])
        return
    assert answer.status_code == 503
    assert send(api, url, len(MODEL), b"").headers["x-burnish-artifact"]


def test_an_upload_can_be_given_up(api: TestClient, tmp_path: Path) -> None:
    url = begin(api).headers["location"]
    send(api, url, 0, MODEL[:50])
    assert api.delete(url).status_code == 204
    assert sessions(tmp_path) == []
    for answer in (api.head(url), api.delete(url), send(api, url, 50, MODEL[50:])):
        assert answer.status_code == 404


@pytest.mark.parametrize("upload_id", ["0" * 32, "..%2F..%2Fledger", "short", "A" * 32])
def test_uploads_that_are_not_there_are_4xx(api: TestClient, upload_id: str) -> None:
    assert api.head(f"/v1/uploads/{upload_id}").status_code in (404, 422)


def test_only_so_many_may_be_open_at_once(api: TestClient) -> None:
    url = begin(api).headers["location"]
    assert begin(api).status_code == 201
    refused = begin(api)
    assert (refused.status_code, refused.headers["retry-after"]) == (429, "60")
    send(api, url, 0, MODEL)
    assert begin(api).status_code == 201


def test_what_another_tenant_has_open_takes_no_place(api: TestClient, stack: FakeStack) -> None:
    stack.platform.ledger.tenants.add("acme", Quotas())
    for tenant in ("default", "acme"):
        answers = [begin(api, tenant=tenant).status_code for _ in range(3)]
        assert answers == [201, 201, 429]


def test_an_upload_survives_a_restart_and_expires_when_nothing_comes(stack: FakeStack, tmp_path: Path) -> None:
    again = fake_stack(tmp_path, upload_expiry_seconds=100)
    with TestClient(build_app(stack.platform)) as api:
        begun = begin(api)
        url = begun.headers["location"]
        assert 90 < parsedate_to_datetime(begun.headers["upload-expires"]).timestamp() - time.time() <= 100
        send(api, url, 0, MODEL[:50])
    with TestClient(build_app(again.platform)) as api:
        assert api.head(url).headers["upload-offset"] == "50"
        (folder,) = sessions(tmp_path)
        for file in folder.iterdir():
            os.utime(file, (0, time.time() - 99))
        assert api.head(url).status_code == 200
        for file in folder.iterdir():
            os.utime(file, (0, time.time() - 101))
        assert send(api, url, 50, MODEL[50:]).status_code == 404
        api.app.state.upload_sessions.sweep()  # type: ignore[attr-defined]
        assert sessions(tmp_path) == []
