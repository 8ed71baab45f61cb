import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from flows import api_once
from flows.api_app import build_app
from tests.unit.flows.api_stack import FakeStack, fake_stack

PROMOTE = "/v1/models/digits/promote"
KEY = {"Idempotency-Key": "one"}


@pytest.fixture
def stack(tmp_path: Path) -> FakeStack:
    made = fake_stack(tmp_path)
    made.register()
    made.register()
    return made


@pytest.fixture
def api(stack: FakeStack) -> Iterator[TestClient]:
    with TestClient(build_app(stack.platform), raise_server_exceptions=False) as client:
        yield client


def test_the_same_request_again_is_answered_again_and_done_once(api: TestClient, stack: FakeStack) -> None:
    first = api.post(PROMOTE, json={"version": 1}, headers=KEY)
    again = api.post(PROMOTE, json={"version": 1}, headers=KEY)
    assert (again.status_code, again.content, again.headers["etag"]) == (200, first.content, '"1"')
    assert again.headers["content-type"] == "application/json"
    assert (api_once.REPLAYED in first.headers, again.headers[api_once.REPLAYED]) == (False, "true")
    assert len(stack.platform.ledger.history("digits")) == 1
    for _ in range(2):
        assert api.post("/v1/models/digits/monitor", headers={"Idempotency-Key": "two"}).status_code == 202
    assert len(stack.prefect.runs) == 1


@pytest.mark.parametrize(
    ("path", "body", "headers"),
    [
        (PROMOTE, {"version": 2}, {}),
        (PROMOTE, {"version": 1, "reason": "why"}, {}),
        ("/v1/models/digits/rollback", {"version": 1}, {}),
        (PROMOTE + "?x=1", {"version": 1}, {}),
        (PROMOTE, {"version": 1}, {"If-Match": '"1"'}),
    ],
)
def test_a_key_of_another_request_is_refused(
    api: TestClient, stack: FakeStack, path: str, body: dict[str, object], headers: dict[str, str]
) -> None:
    api.post(PROMOTE, json={"version": 1}, headers=KEY)
    answer = api.post(path, json=body, headers=KEY | headers)
    assert (answer.status_code, answer.json()["type"]) == (422, "urn:burnish:idempotency-key-reused")
    assert len(stack.platform.ledger.history("digits")) == 1


def test_what_had_no_effect_may_be_sent_again_under_its_key(api: TestClient, stack: FakeStack) -> None:
    stack.prefect.down = True
    assert api.post("/v1/models/digits/monitor", headers=KEY).status_code == 503
    stack.prefect.down = False
    assert api.post("/v1/models/digits/monitor", headers=KEY).status_code == 202
    assert api.post(PROMOTE, json={"version": 9}, headers={"Idempotency-Key": "two"}).status_code == 404
    assert api.post(PROMOTE, json={"version": "x"}, headers={"Idempotency-Key": "two"}).status_code == 422
    assert api.post(PROMOTE, json={"version": 1}, headers={"Idempotency-Key": "two"}).status_code == 200


def test_a_failure_that_nobody_foresaw_lets_go_of_the_key(
    api: TestClient, stack: FakeStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as broken:
        broken.setattr(stack.platform.workers, "await_generation", lambda *_: 1 / 0)
        assert api.post(PROMOTE, json={"version": 1}, headers=KEY).status_code == 500
    assert "already live" in api.post(PROMOTE, json={"version": 1}, headers=KEY).json()["detail"]


def test_of_the_same_request_at_once_one_is_done(
    api: TestClient, stack: FakeStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    all_asked, real = threading.Event(), stack.platform.deployments.start
    monkeypatch.setattr(
        stack.platform.deployments, "start", lambda *given, **named: all_asked.wait(60) and real(*given, **named)
    )

    def ask(_: int) -> int:
        status = api.post("/v1/models/digits/monitor", headers=KEY).status_code
        if status != 202:
            refused.append(status)
            if len(refused) == 5:
                all_asked.set()
        return status

    refused: list[int] = []
    with ThreadPoolExecutor(6) as threads:
        found = sorted(threads.map(ask, range(6)))
    assert (found, len(stack.prefect.runs)) == ([202, *[409] * 5], 1)


@pytest.mark.parametrize("key", ["", "a b", "k" * 256, "\u00e9"])
def test_a_key_that_cannot_be_kept_is_refused(api: TestClient, stack: FakeStack, key: str) -> None:
    answer = api.post(PROMOTE, json={"version": 1}, headers={b"Idempotency-Key": key.encode()})
    assert (answer.status_code, "Idempotency-Key" in answer.json()["detail"]) == (422, True)
    assert stack.platform.ledger.routes() == ()


def test_openapi_names_the_key_at_every_post_and_nowhere_else(api: TestClient) -> None:
    for path, operations in api.get("/openapi.json").json()["paths"].items():
        for method, operation in operations.items():
            named = [one["name"] for one in operation.get("parameters", [])].count("Idempotency-Key")
            assert named == (method == "post"), (method, path)
