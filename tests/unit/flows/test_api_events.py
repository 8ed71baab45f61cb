import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from flows import api_events
from flows.api_app import build_app
from registry.records.release import OptimizationState, OptimizationStatus
from registry.records.tenant import Quotas
from tests.drafts import optimization
from tests.unit.flows.api_stack import FakeStack, fake_stack

EVENTS = "/v1/optimizations/1/events"


@pytest.fixture
def stack(tmp_path: Path) -> FakeStack:
    return fake_stack(tmp_path)


@pytest.fixture
def api(stack: FakeStack, monkeypatch: pytest.MonkeyPatch) -> Iterator[TestClient]:
    monkeypatch.setattr(api_events, "LOOK_S", 0.005)
    yield TestClient(build_app(stack.platform))


def save(stack: FakeStack, step: int, **changes: object) -> OptimizationStatus:
    status = optimization("1", "digits", OptimizationState.RUNNING)
    at = status.created_at + timedelta(microseconds=step)
    return stack.platform.ledger.save_optimization(status.model_copy(update={"updated_at": at, **changes}))


def look(monkeypatch: pytest.MonkeyPatch, stack: FakeStack, steps: list[dict[str, object]]) -> None:
    """Let one step happen before each look at the status."""
    real, coming = stack.platform.ledger.optimization, iter(enumerate(steps, start=1))

    def after_a_step(identifier: str) -> OptimizationStatus:
        number, changes = next(coming)
        if changes:
            save(stack, number, **changes)
        return real(identifier)

    monkeypatch.setattr(stack.platform.ledger, "optimization", after_a_step)


def read(text: str) -> list[dict[str, Any]]:
    blocks = [dict(line.split(": ", 1) for line in block.split("\n")) for block in text.split("\n\n") if block]
    return [block | {"data": json.loads(block["data"])} for block in blocks if "data" in block]


@contextmanager
def watched(api: TestClient, stack: FakeStack) -> Iterator[None]:
    """Let somebody else watch the optimization; it ends afterwards."""
    save(stack, 1)
    watching = threading.Thread(target=api.get, args=(EVENTS,))
    watching.start()
    try:
        while not getattr(api.app.state, "streams", 0):  # type: ignore[attr-defined]
            assert watching.is_alive()
        yield
    finally:
        save(stack, 2, state=OptimizationState.RELEASED)
        watching.join(30)


def test_progress_is_told_until_the_end(api: TestClient, stack: FakeStack, monkeypatch: pytest.MonkeyPatch) -> None:
    save(stack, 0)
    released = {"state": OptimizationState.RELEASED, "version": 3}
    look(monkeypatch, stack, [{}, {"stage": "candidates"}, {}, {"stage": "gate"}, released])
    answer = api.get(EVENTS)
    assert answer.headers["content-type"].startswith("text/event-stream")
    found = read(answer.text)
    assert [(event["event"], event["data"]["stage"], event["data"]["state"]) for event in found] == [
        ("progress", "", "running"),
        ("progress", "candidates", "running"),
        ("progress", "gate", "running"),
        ("end", "", "released"),
    ]
    ids = [int(event["id"]) for event in found]
    assert ids == sorted(set(ids))


def test_who_comes_back_is_told_what_is_newer_and_nothing_after_the_end(api: TestClient, stack: FakeStack) -> None:
    save(stack, 1)
    save(stack, 2, state=OptimizationState.REFUSED)
    (end,) = read(api.get(EVENTS).text)
    older = {"Last-Event-ID": str(int(end["id"]) - 1)}
    assert read(api.get(EVENTS, headers=older).text) == [end]
    again = api.get(EVENTS, headers={"Last-Event-ID": end["id"]})
    assert (again.status_code, again.content) == (204, b"")


def test_without_news_the_connection_is_kept_open_by_comments(
    api: TestClient, stack: FakeStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api_events, "HEARTBEAT_S", -1)
    save(stack, 0)
    look(monkeypatch, stack, [{}, {}, {}, {"state": OptimizationState.FAILED}])
    text = api.get(EVENTS).text
    assert (len(read(text)), text.count(": nothing new\n\n")) == (2, 3)


def test_a_stream_ends_in_time_and_says_when_to_come_back(
    api: TestClient, stack: FakeStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api_events, "LONGEST_S", -1)
    save(stack, 1)
    text = api.get(EVENTS).text
    assert text.startswith("retry: 1000\n\n")
    assert [event["event"] for event in read(text)] == ["progress"]


@pytest.mark.parametrize(("bound", "status"), [("STREAMS_AT_ONCE", 503), ("STREAMS_OF_ONE_TENANT", 429)])
def test_streams_are_bounded_in_number_and_free_their_place(
    api: TestClient, stack: FakeStack, monkeypatch: pytest.MonkeyPatch, bound: str, status: int
) -> None:
    monkeypatch.setattr(api_events, bound, 1)
    with watched(api, stack):
        refused = api.get(EVENTS)
        assert (refused.status_code, refused.headers["retry-after"]) == (status, "5")
        assert (refused.headers["content-type"], refused.json()["status"]) == ("application/problem+json", status)
    assert len(read(api.get(EVENTS).text)) == 1


def test_what_one_tenant_watches_keeps_no_other_from_watching(
    api: TestClient, stack: FakeStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api_events, "STREAMS_OF_ONE_TENANT", 1)
    stack.platform.ledger.tenants.add("acme", Quotas())
    stack.platform.ledger.save_optimization(optimization("2", "acme.m", OptimizationState.RELEASED))
    with watched(api, stack):
        assert len(read(api.get("/v1/optimizations/2/events?tenant=acme").text)) == 1
        assert api.get(EVENTS).status_code == 429


def test_a_stream_that_fails_frees_its_place(
    api: TestClient, stack: FakeStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(_: OptimizationStatus) -> str:
        raise OSError("made to fail")

    save(stack, 1, state=OptimizationState.RELEASED)
    monkeypatch.setattr(api_events, "STREAMS_OF_ONE_TENANT", 1)
    with monkeypatch.context() as patch, pytest.raises(OSError, match="made to fail"):
        patch.setattr(api_events, "_event", fails)
        api.get(EVENTS)
    assert len(read(api.get(EVENTS).text)) == 1


def test_what_is_not_there_or_no_event_is_a_problem(api: TestClient, stack: FakeStack) -> None:
    assert api.get(EVENTS).json()["status"] == 404
    save(stack, 1)
    assert api.get(EVENTS, headers={"Last-Event-ID": "x"}).json()["status"] == 422
