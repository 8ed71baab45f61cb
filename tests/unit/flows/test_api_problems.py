import logging
from collections.abc import Iterator
from typing import Any

import anyio
import pytest
from fastapi.testclient import TestClient
from starlette.types import ASGIApp, Message, Scope

from flows.api_app import build_app
from flows.api_body_limit import MAX_BODY_BYTES
from tests.unit.flows.api_stack import FakeStack, fake_stack

PROMOTE = "/v1/models/digits/promote"


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> FakeStack:
    made = fake_stack(tmp_path_factory.mktemp("problems"))
    made.register()
    return made


@pytest.fixture(scope="module")
def api(stack: FakeStack) -> Iterator[TestClient]:
    yield TestClient(build_app(stack.platform), raise_server_exceptions=False)


JSON = {"content-type": "application/json"}


@pytest.mark.parametrize(
    ("method", "path", "sent", "status"),
    [
        ("GET", "/nothing", {}, 404),
        ("GET", "/docs/assets/nothing.js", {}, 404),
        ("PATCH", "/v1/models", {}, 405),
        ("POST", PROMOTE, {"content": b'{"version": ', "headers": JSON}, 422),
        ("POST", PROMOTE, {"content": b'{"version": 1, "\\ud800": 1}', "headers": JSON}, 422),
        ("POST", PROMOTE, {"content": b"\xff\xfe", "headers": JSON}, 422),
        ("POST", PROMOTE, {"content": b"[" * 100_000, "headers": JSON}, 400),
        ("POST", PROMOTE, {"content": b'{"version": ' + b"9" * 5000 + b"}", "headers": JSON}, 400),
        ("POST", PROMOTE, {"content": b"", "headers": JSON}, 422),
        ("POST", PROMOTE, {"json": {"version": 2**31}}, 422),
        ("POST", PROMOTE, {"json": {"version": 1, "reason": "\0"}}, 422),
        ("POST", PROMOTE, {"json": {f"field {number}": 1 for number in range(1000)}}, 422),
        ("GET", "/v1/optimizations/%00", {}, 422),
        ("GET", "/v1/models/digits?x=%ff", {}, 200),
    ],
)
def test_every_error_is_a_problem(api: TestClient, method: str, path: str, sent: dict[str, Any], status: int) -> None:
    answer = api.request(method, path, **sent)
    assert answer.status_code == status, answer.text
    if status == 200:
        return
    assert answer.headers["content-type"] == "application/problem+json"
    assert set(answer.json()) == {"type", "title", "status", "detail"}
    assert (answer.json()["status"], len(answer.content) < 4000) == (status, True)


def test_what_nobody_foresaw_is_500_without_a_traceback_and_logged_under_the_requests_id(
    api: TestClient, stack: FakeStack, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(stack.platform.ledger, "served", lambda _: 1 / 0)
    with caplog.at_level(logging.ERROR, "flows.api_problems"):
        answer = api.post(PROMOTE, json={"version": 1}, headers={"x-request-id": "mine-1"})
    assert (answer.status_code, answer.headers["content-type"]) == (500, "application/problem+json")
    assert answer.headers["x-request-id"] == "mine-1"
    assert "mine-1" in answer.json()["detail"]
    assert "ZeroDivisionError" not in answer.text
    (record,) = caplog.records
    assert "mine-1" in record.message
    assert record.exc_info is not None
    assert record.exc_info[0] is ZeroDivisionError


@pytest.mark.parametrize(("given", "kept"), [("abc-1", True), ("a b", False), ("x" * 129, False), ("", False)])
def test_every_answer_names_its_request(api: TestClient, given: str, kept: bool) -> None:
    for path in ("/v1/models", "/nothing"):
        found = api.get(path, headers={"x-request-id": given}).headers["x-request-id"]
        assert (found == given) is kept
        assert found


def test_a_body_that_is_too_large_is_refused_before_it_is_read(api: TestClient) -> None:
    answer = api.post(PROMOTE, content=b" " * (MAX_BODY_BYTES + 1), headers=JSON)
    assert (answer.status_code, answer.headers["content-type"]) == (413, "application/problem+json")
    assert f"at most {MAX_BODY_BYTES} bytes" in answer.json()["detail"]
    assert api.post(PROMOTE, content=b" " * MAX_BODY_BYTES, headers=JSON).status_code == 422


def test_a_body_of_unknown_length_is_refused_while_it_is_read(stack: FakeStack) -> None:
    app: ASGIApp = build_app(stack.platform)
    sent: list[Message] = []
    taken = 0

    async def receive() -> Message:
        nonlocal taken
        taken += 2**20
        return {"type": "http.request", "body": b" " * 2**20, "more_body": True}

    async def send(message: Message) -> None:
        sent.append(message)

    scope: Scope = {
        "type": "http",
        "method": "POST",
        "path": PROMOTE,
        "raw_path": PROMOTE.encode(),
        "query_string": b"",
        "headers": [(b"content-type", b"application/json")],
        "scheme": "http",
        "server": ("test", 80),
        "http_version": "1.1",
        "root_path": "",
    }
    anyio.run(app, scope, receive, send)
    assert (sent[0]["status"], taken) == (413, MAX_BODY_BYTES + 2**20)


def test_openapi_declares_the_problems_of_every_operation(api: TestClient) -> None:
    described = api.get("/openapi.json").json()
    assert described["openapi"].startswith("3.1")
    assert set(described["components"]["schemas"]["Problem"]["required"]) == {"type", "title", "status", "detail"}
    assert "HTTPValidationError" not in described["components"]["schemas"]
    for operations in described["paths"].values():
        for operation in operations.values():
            for status in ("4XX", "503", "5XX"):
                assert set(operation["responses"][status]["content"]) == {"application/problem+json"}
            assert "Retry-After" in operation["responses"]["503"]["headers"]
