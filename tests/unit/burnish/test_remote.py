from collections.abc import Iterator

import httpx
import pytest

from burnish.errors import InputError, RemoteError, RemoteUnreachable
from burnish.remote import Remote
from burnish.settings import find_endpoints
from tests.unit.burnish.bridge import CONTROL, answer_with

PAUSES = [0.2, 0.8]


class Script:
    """Answers with what a test lists, in order."""

    def __init__(self, *steps: httpx.Response | type[httpx.TransportError]) -> None:
        self.steps = list(steps)
        self.calls = 0

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.calls += 1
        step = self.steps.pop(0)
        if isinstance(step, httpx.Response):
            return step
        raise step("broken", request=request)


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    slept: list[float] = []
    monkeypatch.setattr("burnish.remote.time.sleep", slept.append)
    return slept


@pytest.fixture
def control() -> Iterator[Remote]:
    made = Remote("the control API", CONTROL)
    yield made
    made.close()


def ok() -> httpx.Response:
    return httpx.Response(200, json={"ok": True})


@pytest.mark.parametrize("first", [httpx.ConnectError, httpx.ReadError, httpx.Response(503), httpx.Response(502)])
def test_get_is_tried_again(
    control: Remote, monkeypatch: pytest.MonkeyPatch, pauses: list[float], first: httpx.Response
) -> None:
    script = Script(first, httpx.ReadTimeout, ok())
    answer_with(monkeypatch, script)
    assert control.get("/v1/status") == {"ok": True}
    assert (script.calls, pauses) == (3, PAUSES)


def test_get_gives_up_after_three(control: Remote, monkeypatch: pytest.MonkeyPatch, pauses: list[float]) -> None:
    script = Script(*[httpx.Response(503, json={"detail": "Prefect does not answer"})] * 3)
    answer_with(monkeypatch, script)
    with pytest.raises(RemoteError, match="Prefect does not answer") as caught:
        control.get("/v1/status")
    assert (caught.value.status, script.calls, pauses) == (503, 3, PAUSES)


@pytest.mark.parametrize(
    "first", [httpx.ReadError, httpx.Response(503), httpx.Response(409, headers={"Retry-After": "1"})]
)
def test_post_is_tried_again_under_one_key(
    control: Remote, monkeypatch: pytest.MonkeyPatch, pauses: list[float], first: httpx.Response
) -> None:
    script, keys = Script(first, httpx.ConnectError, ok(), ok()), []

    def note(request: httpx.Request) -> httpx.Response:
        keys.append(request.headers["idempotency-key"])
        return script(request)

    answer_with(monkeypatch, note)
    assert control.post("/v1/feedback", {}) == {"ok": True}
    assert pauses == PAUSES
    control.post("/v1/feedback", {})
    assert (len(keys), len(set(keys[:3])), keys[3] in keys[:3]) == (4, 1, False)


def test_a_conflict_is_not_tried_again(control: Remote, monkeypatch: pytest.MonkeyPatch) -> None:
    script = Script(httpx.Response(409, json={"detail": "another won"}), ok())
    answer_with(monkeypatch, script)
    with pytest.raises(RemoteError, match="another won"):
        control.post("/v1/anything", {})
    assert script.calls == 1


def test_the_key_is_sent_and_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str | None] = []

    def note(request: httpx.Request) -> httpx.Response:
        seen.append(request.headers.get("authorization"))
        return ok()

    answer_with(monkeypatch, note)
    for key in ("bn_secret", None):
        remote = Remote("any", CONTROL, api_key=key)
        remote.get("/v1/status")
        remote.close()
    assert seen == ["Bearer bn_secret", None]
    assert "bn_secret" not in repr(find_endpoints(api_key="bn_secret"))


def test_what_knows_no_keys_is_asked_again_only_if_it_was_never_received(
    control: Remote, monkeypatch: pytest.MonkeyPatch, pauses: list[float]
) -> None:
    script = Script(httpx.ConnectError, ok())
    answer_with(monkeypatch, script)
    assert control.ask("/v1/feedback", {}) == {"ok": True}
    assert pauses == PAUSES[:1]
    for failure in (httpx.ReadError, httpx.Response(503, json={"detail": "not now"})):
        script = Script(failure, ok())
        answer_with(monkeypatch, script)
        with pytest.raises(RemoteError) as caught:
            control.ask("/v1/feedback", {})
        assert not isinstance(caught.value, RemoteUnreachable)
        assert script.calls == 1


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_json_has_not_is_never_sent(control: Remote, value: float) -> None:
    for send in (control.post, control.put):
        with pytest.raises(InputError, match="the control API cannot be sent NaN or an infinity"):
            send("/v1/models/digits/policy", {"policy": {"latency_objective_ms": value}})


def test_a_call_is_never_tried_again(control: Remote, monkeypatch: pytest.MonkeyPatch) -> None:
    script = Script(httpx.ConnectError, ok())
    answer_with(monkeypatch, script)
    with pytest.raises(RemoteUnreachable, match="is the stack up"):
        control.call("PATCH", "/v1/uploads/1", {}, iter([b"x"]))
    assert script.calls == 1


@pytest.mark.parametrize(
    ("answer", "error", "message"),
    [
        (httpx.Response(422, json={"detail": "no such policy"}), InputError, "no such policy"),
        (httpx.Response(400, json={"error": "wrong shape"}), InputError, "wrong shape"),
        (httpx.Response(413, text="too large"), InputError, "too large"),
        (httpx.Response(404, json={"detail": "no model"}), RemoteError, "answered 404: no model"),
        (httpx.Response(409, json={"detail": "another won"}), RemoteError, "answered 409: another won"),
        (httpx.Response(500), RemoteError, "Internal Server Error"),
        (httpx.Response(200, text="<html>"), RemoteError, "not JSON"),
    ],
)
def test_refusals_become_errors_with_the_remote_sides_words(
    control: Remote, monkeypatch: pytest.MonkeyPatch, answer: httpx.Response, error: type[Exception], message: str
) -> None:
    answer_with(monkeypatch, lambda _: answer)
    with pytest.raises(error, match=message):
        control.post("/v1/anything", {})


@pytest.mark.parametrize(("url", "outward"), [("http://127.0.0.1:1", False), ("http://burnish.example", True)])
def test_loopback_is_never_asked_through_a_proxy(url: str, outward: bool) -> None:
    assert Remote("any", url)._http.trust_env is outward
