"""What a hostile client sends to a real Envoy: each is answered as it should be, and no worker hears of it."""

import json
import socket
from collections.abc import Iterator

import httpx
import pytest

from serving.gateway import files
from tests.integration.gateway_rig import MAX_BODY_BYTES, GatewayRig, gateway_alone, plan_of, read_all, running

INFER = "/v2/models/m/infer"
SHORT_S = 0.5
POST = b"POST /v2/models/m/infer HTTP/1.1\r\nhost: gateway\r\n"


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayRig]:
    home = tmp_path_factory.mktemp("hostile")
    with running(plan_of(home, 1), home) as rig:
        yield rig


@pytest.fixture(scope="module")
def hasty(rig: GatewayRig, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayRig]:
    """A gateway in front of the same worker that waits for nobody."""
    home = tmp_path_factory.mktemp("hasty")
    times = {"header_timeout_s": SHORT_S, "body_timeout_s": SHORT_S, "request_timeout_s": SHORT_S}
    plan = plan_of(home, 1).model_copy(update={**times, "workers": rig.plan.workers})
    files.render(plan, home / "gateway")
    with gateway_alone(GatewayRig(plan, home / "gateway")) as running:
        yield running


def status_of(answer: bytes) -> int:
    """The status of the one answer that came; nothing may follow it."""
    assert answer.count(b"HTTP/1.1 ") == 1, answer
    return int(answer.split(b" ", 2)[1])


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("/v2/models/..%2f..%2fburnish/catalog", {}, 400),
        ("/v2/models/m%5c..%5csecret", {}, 400),
        ("/v2/..%2F", {}, 400),
        ("/v2/../burnish/catalog", {}, 404),
        ("/v2/models/../../burnish/usage", {}, 404),
        ("/v2/..//burnish//usage", {}, 404),
        ("//burnish/catalog", {}, 404),
        ("/burnish/usage", {}, 404),
        ("/metrics", {}, 404),
        ("/", {}, 404),
        ("/v2x", {}, 404),
        ("/V2/models/m", {}, 404),
        ("/inference.GRPCInferenceService/ModelInfer", {}, 404),
        ("/v2", {"x_burnish_tenant": "acme"}, 400),
        ("/v2", {"X_Api_Key": "k"}, 400),
        ("/v2", {"x-long": "x" * 40_000}, 431),
        ("/v2", {f"x-{number}": "1" for number in range(200)}, 431),
    ],
)
def test_a_path_or_header_that_hides_something_reaches_no_worker(
    rig: GatewayRig, path: str, headers: dict[str, str], status: int
) -> None:
    before = rig.seen()
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    answer = rig.raw(f"GET {path} HTTP/1.1\r\nhost: gateway\r\nconnection: close\r\n{lines}\r\n".encode())
    assert status_of(answer) == status
    assert rig.seen() == before


def test_doubled_slashes_and_dots_inside_the_protocol_are_made_plain(rig: GatewayRig) -> None:
    with httpx.Client(base_url=rig.url, trust_env=False) as client:
        assert client.get("/v2//a/../b").headers["x-path"] == "/v2/b"
        plain = client.get("/v2/models/m/ready")
        for hidden in ("/v2//models//m/./ready", "/v2/models/other/../m/ready"):
            answer = client.get(hidden)
            assert answer.headers["x-path"] == "/v2/models/m/ready"
            assert answer.headers["x-worker"] == plain.headers["x-worker"], (
                "the worker is that of the plain path's model"
            )


@pytest.mark.parametrize(
    ("sent", "status", "says"),
    [
        (b"CONNECT gateway:80 HTTP/1.1\r\nhost: gateway\r\n", 403, "takes no CONNECT"),
        (b"GET /v2 HTTP/1.1\r\nhost: g\r\nconnection: upgrade\r\nupgrade: websocket\r\n", 403, "no upgrade"),
        (b"GET https://gateway/v2 HTTP/1.1\r\nhost: gateway\r\n", 403, "no `https` URL"),
        (b"GET /v2 HTTP/1.0\r\nhost: gateway\r\n", 426, "1.1 and 2 are"),
    ],
)
def test_what_the_gateway_is_not_for_is_told_so_at_once(rig: GatewayRig, sent: bytes, status: int, says: str) -> None:
    before = rig.seen()
    answer = rig.raw(sent + b"\r\n")
    assert status_of(answer) == status
    assert says in json.loads(answer.partition(b"\r\n\r\n")[2])["error"]
    assert rig.seen() == before


SMUGGLED = b"GET /v2/smuggled HTTP/1.1\r\nhost: gateway\r\n\r\n"


@pytest.mark.parametrize(
    "sent",
    [
        POST + b"content-length: 4\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n" + SMUGGLED,
        POST + b"transfer-encoding: chunked\r\ncontent-length: 4\r\n\r\n0\r\n\r\n" + SMUGGLED,
        POST + b"content-length: 0\r\ncontent-length: 48\r\n\r\n" + SMUGGLED,
        POST + b"content-length: 0, 48\r\n\r\n" + SMUGGLED,
        POST + b"content-length: +48\r\n\r\n" + SMUGGLED,
        POST + b"content-length: -1\r\n\r\n" + SMUGGLED,
        POST + b"content-length: 0x30\r\n\r\n" + SMUGGLED,
        POST + b"content-length : 48\r\n\r\n" + SMUGGLED,
        POST + b"transfer-encoding: xchunked\r\n\r\n0\r\n\r\n" + SMUGGLED,
        POST + b"transfer-encoding: chunked, identity\r\n\r\n0\r\n\r\n" + SMUGGLED,
        POST + b"transfer-encoding: identity\r\ncontent-length: 0\r\n\r\n" + SMUGGLED,
        POST + b"transfer-encoding: chunked\r\n\r\nzz\r\n\r\n0\r\n\r\n" + SMUGGLED,
        POST + b"transfer-encoding: chunked\r\n\r\n-1\r\n\r\n0\r\n\r\n" + SMUGGLED,
        POST + b"transfer-encoding: chunked\r\n\r\n3\r\nabcd\r\n0\r\n\r\n" + SMUGGLED,
        POST + b"transfer-encoding: chunked\r\n\r\nffffffffffffffff1\r\nabc\r\n0\r\n\r\n" + SMUGGLED,
        POST + b"x-no-colon\r\ncontent-length: 0\r\n\r\n" + SMUGGLED,
        POST + b"x-null: a\x00b\r\ncontent-length: 0\r\n\r\n" + SMUGGLED,
        POST + b"host: other\r\nconnection: close\r\ncontent-length: 0\r\n\r\n",
        b"POST /v2/models/m/infer\r\n\r\n" + SMUGGLED,
        b"GET /v2/models/m ready HTTP/1.1\r\nhost: gateway\r\n\r\n" + SMUGGLED,
        b"GET /v2 HTTP/1.1\r\n\r\n" + SMUGGLED,
        b"GET /v2 HTTP/3.7\r\nhost: gateway\r\n\r\n" + SMUGGLED,
        b"CONNECT gateway:80 HTTP/1.1\r\nhost: gateway\r\n\r\n" + SMUGGLED,
        b"GET /v2 HTTP/1.1\r\nhost: gateway\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n" + SMUGGLED,
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 64,
    ],
)
def test_a_request_that_two_readers_may_read_differently_reaches_no_worker(rig: GatewayRig, sent: bytes) -> None:
    before = rig.seen()
    answer = rig.raw(sent, wait_s=3)
    assert answer == b"" or status_of(answer) in (400, 403, 404, 408, 426, 501)
    assert rig.seen() == before


def test_a_folded_header_reaches_a_worker_as_one_line(rig: GatewayRig) -> None:
    before = rig.seen()
    folded = b"x-folded: a\r\n content-length: 9\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
    assert b'"x-folded": "a content-length: 9"' in rig.raw(POST + folded)
    assert rig.seen() == before + 1


def test_a_body_that_is_too_large_reaches_no_worker_whether_or_not_its_size_was_said(rig: GatewayRig) -> None:
    before = rig.seen()
    with httpx.Client(base_url=rig.url, trust_env=False, timeout=20) as client:
        assert client.post(INFER, content=b"x" * (MAX_BODY_BYTES + 1)).status_code == 413
        refused = client.post(INFER, content=iter([b"x" * 60_000, b"x" * 60_000]))
        assert (refused.status_code, refused.json()) == (413, {"error": "the request's body is too large"})
        assert rig.seen() == before
        assert client.post(INFER, content=b"x" * MAX_BODY_BYTES).text == str(MAX_BODY_BYTES)
    declared = POST + b"content-length: 99999999999\r\n\r\nx"
    assert status_of(rig.raw(declared)) == 413
    assert rig.seen() == before + 1


@pytest.mark.parametrize(
    "sent",
    [
        b"POST /v2/models/m/infer HTTP/1.1\r\nhost: gate",
        POST + b"content-length: 10\r\n\r\nxx",
        POST + b"transfer-encoding: chunked\r\n\r\n3\r\nabc\r\n",
        b"POST /nothing HTTP/1.1\r\nhost: gateway\r\ncontent-length: 10\r\n\r\nxx",
    ],
    ids=["head", "body", "chunks", "nowhere"],
)
def test_who_is_slow_is_ended_and_reaches_no_worker(rig: GatewayRig, hasty: GatewayRig, sent: bytes) -> None:
    before = rig.seen()
    with socket.create_connection(("127.0.0.1", hasty.plan.port), timeout=15) as connection:
        connection.sendall(sent)
        answer = read_all(connection)
        assert connection.recv(1) == b"", "the connection is closed"
    assert status_of(answer) in (404, 408, 504)
    assert rig.seen() == before


def test_who_leaves_in_the_middle_of_a_body_reaches_no_worker(rig: GatewayRig) -> None:
    before = rig.seen()
    with socket.create_connection(("127.0.0.1", rig.plan.port), timeout=10) as connection:
        connection.sendall(POST + b"content-length: 10\r\n\r\nxx")
    assert httpx.get(f"{rig.url}/v2", trust_env=False).status_code == 200
    assert rig.seen() == before + 1


def test_a_client_cannot_steer_the_gateway(rig: GatewayRig) -> None:
    steering = {
        "x-envoy-upstream-rq-timeout-ms": "1",
        "x-envoy-max-retries": "9",
        "x-envoy-retry-on": "5xx",
        "x-envoy-attempt-count": "7",
        "x-forwarded-host": "elsewhere",
        "origin": "http://elsewhere",
    }
    answer = httpx.post(f"{rig.url}{INFER}", content=b"x", headers=steering, trust_env=False)
    assert answer.status_code == 200, "its worker takes longer than the client's millisecond"
    assert '"x-envoy-attempt-count": "1"' in answer.headers["x-came"]
    assert not [name for name in answer.headers if name.startswith("access-control-")], "CORS is off"
