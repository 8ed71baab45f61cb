"""The control API with keys: who may do what, what is another's is not there, and every change is in the audit."""

import json
import logging
from collections.abc import Iterator

import pytest
from fastapi.testclient import TestClient

from flows.api_app import build_app
from registry.errors import RegistryError
from registry.records.audit import AuditEntry
from registry.records.tenant import Quotas, Scope
from serving.engine.catalog import read_entry
from tests.unit.flows.api_stack import FakeStack, fake_stack
from tests.unit.registry.uploads.models import model

MODEL = model().SerializeToString()
NOBODY = "bn_" + "0" * 12 + "_" + "A" * 43


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> FakeStack:
    """Two tenants beside ``default``; each of the three has a model ``m``."""
    made = fake_stack(tmp_path_factory.mktemp("stack"), require_keys=True)
    for name in ("acme", "other"):
        made.platform.ledger.tenants.add(name, Quotas())
    for name in ("m", "acme.m", "other.m", "other.secret"):
        made.register(name)
    return made


@pytest.fixture(scope="module")
def api(stack: FakeStack) -> Iterator[TestClient]:
    with TestClient(build_app(stack.platform)) as client:
        yield client


def key(stack: FakeStack, tenant: str = "acme", *scopes: Scope) -> dict[str, str]:
    made = stack.platform.key_ring.make(tenant, scopes or tuple(Scope), "test")
    return {"x-api-key": made.text.get_secret_value()}


def last_entry(stack: FakeStack) -> AuditEntry:
    return stack.platform.ledger.audit.entries(tenant=None, limit=1)[0]


def test_without_a_key_that_holds_nothing_is_answered_and_the_reason_is_not_told(
    api: TestClient, stack: FakeStack
) -> None:
    revoked = key(stack)
    stack.platform.key_ring.revoke("acme", revoked["x-api-key"].split("_")[1])
    changed = key(stack)["x-api-key"][:-1] + "!"
    wrong: list[dict[str, str]] = [
        {},
        revoked,
        {"x-api-key": NOBODY},
        {"x-api-key": changed},
        {"x-api-key": ""},
        {"Authorization": "Basic YTpi"},
        {"Authorization": f"Bearer {NOBODY}"},
        key(stack) | {"Authorization": f"Bearer {NOBODY}"},
    ]
    answers = [api.get("/v1/models", headers=headers) for headers in wrong]
    assert {answer.status_code for answer in answers} == {401}
    assert len({answer.content for answer in answers}) == 1
    assert answers[0].headers["content-type"] == "application/problem+json"
    assert answers[0].headers["www-authenticate"] == "Bearer"
    assert api.get("/metrics").status_code == 401
    assert api.get("/v1/nothing").status_code == 401
    assert api.get("/v1/health").status_code == 200


def test_a_key_is_taken_in_either_header(api: TestClient, stack: FakeStack) -> None:
    text = key(stack)["x-api-key"]
    for headers in ({"x-api-key": text}, {"Authorization": f"Bearer {text}"}, {"authorization": f"bearer  {text}"}):
        assert api.get("/v1/models", headers=headers).status_code == 200


@pytest.mark.parametrize(
    ("scope", "method", "path", "status"),
    [
        (Scope.PREDICT, "GET", "/v1/models", 403),
        (Scope.PREDICT, "POST", "/v1/feedback", 422),
        (Scope.ADMIN, "POST", "/v1/models/m/promote", 403),
        (Scope.DEPLOY, "GET", "/v1/keys", 403),
        (Scope.DEPLOY, "GET", "/v1/audit", 403),
        (Scope.ADMIN, "GET", "/v1/audit", 200),
        (Scope.ADMIN, "GET", "/v1/usage", 200),
        (Scope.ADMIN, "GET", "/v1/tenants", 403),
        (Scope.ADMIN, "GET", "/v1/status", 403),
        (Scope.ADMIN, "GET", "/metrics", 403),
        (Scope.DEPLOY, "GET", "/v1/metrics", 200),
        (Scope.PREDICT, "GET", "/v1/metrics", 403),
        (Scope.DEPLOY, "GET", "/v1/logs", 200),
        (Scope.PREDICT, "GET", "/v1/logs", 403),
        (Scope.ADMIN, "GET", "/v1/audit/verify", 403),
        (Scope.ADMIN, "GET", "/v1/keys?tenant=other", 403),
    ],
)
def test_a_key_does_what_its_scopes_say(
    api: TestClient, stack: FakeStack, scope: Scope, method: str, path: str, status: int
) -> None:
    answer = api.request(method, path, headers=key(stack, "acme", scope), json={} if method == "POST" else None)
    assert answer.status_code == status
    if status >= 400:
        assert answer.headers["content-type"] == "application/problem+json"


READS = ["", "/versions", "/versions/1", "/history", "/policy", "/traffic", "/drift", "/drift/report"]


@pytest.mark.parametrize("rest", READS)
def test_what_is_anothers_answers_with_the_bytes_of_what_is_not_there(
    api: TestClient, stack: FakeStack, rest: str
) -> None:
    mine = key(stack)
    anothers = api.get(f"/v1/models/secret{rest}", headers=mine)
    missing = api.get(f"/v1/models/nobody{rest}", headers=mine)
    assert (anothers.status_code, missing.status_code) == (404, 404)
    assert anothers.content.replace(b"secret", b"nobody") == missing.content
    assert b"acme" not in missing.content
    assert api.get(f"/v1/models/other.secret{rest}", headers=mine).status_code == 422


def test_an_optimization_an_upload_and_feedback_are_seen_by_their_tenant_only(
    api: TestClient, stack: FakeStack
) -> None:
    mine, theirs = key(stack), key(stack, "other")
    digest = api.put("/v1/artifacts/model.onnx", content=MODEL, headers=theirs).json()["digest"]
    body = {"source": digest, "evaluation": digest}
    refused = api.post("/v1/models/new/optimizations", json=body, headers=mine)
    unknown = api.post("/v1/models/new/optimizations", json=dict.fromkeys(body, "9" * 64), headers=mine)
    assert (refused.status_code, unknown.status_code) == (422, 422)
    assert refused.content.replace(digest.encode(), b"9" * 64) == unknown.content
    started = api.post("/v1/models/new/optimizations", json=body, headers=theirs).json()
    assert started["model"] == "new"
    assert stack.platform.ledger.optimization(started["id"]).model == "other.new"
    for rest in ("", "/result", "/report", "/events"):
        paths = [f"/v1/optimizations/{one}{rest}" for one in (started["id"], "0" * 32)]
        answers = [api.get(path, headers=mine).content.replace(started["id"].encode(), b"0" * 32) for path in paths]
        assert answers[0] == answers[1]
    assert api.post(f"/v1/optimizations/{started['id']}/cancel", headers=mine).status_code == 404
    assert api.get("/v1/optimizations", headers=mine).json()["optimizations"] == []
    told = {"request_id": "r", "labels": [1]}
    assert api.post("/v1/feedback", json=told | {"model": "secret"}, headers=mine).status_code == 404
    assert api.post("/v1/feedback", json=told | {"model": "secret"}, headers=theirs).json()["model"] == "secret"
    assert api.post("/v1/feedback", json=told | {"model": "other.secret"}, headers=key(stack, "default")).is_error


def test_a_tenants_release_is_its_own_and_its_answers_have_short_names(api: TestClient, stack: FakeStack) -> None:
    mine = key(stack)
    answer = api.post("/v1/models/m/promote", json={"version": 1, "reason": "first"}, headers=mine)
    assert answer.json()["route"]["model"] == "m"
    catalog = stack.platform.settings.catalog_folder
    assert read_entry(catalog / "acme.m.json").generation == 1
    assert stack.platform.ledger.route("other.m") is None
    event = api.get("/v1/models/m/history", headers=mine).json()["events"][0]
    assert (event["model"], event["actor"]) == ("m", mine["x-api-key"].split("_")[1])
    listed = api.get("/v1/models", headers=mine).json()["models"]
    assert [(model["name"], model["route"]["model"]) for model in listed] == [("m", "m")]
    again = api.post("/v1/models/m/promote", json={"version": 1}, headers=mine)
    assert again.json()["detail"] == "version 1 of 'm' is already live (generation 1)"


def test_every_change_and_every_refusal_is_audited_with_its_evidence(api: TestClient, stack: FakeStack) -> None:
    mine = key(stack, "other")
    api.post("/v1/models/m/promote", json={"version": 1}, headers=mine)
    entry = last_entry(stack)
    assert (entry.tenant, entry.actor, entry.action, entry.outcome) == (
        "other",
        mine["x-api-key"].split("_")[1],
        "promote",
        "done",
    )
    assert (entry.target, entry.source) == ("POST /v1/models/m/promote", "testclient")
    assert (entry.evidence["generation"], entry.evidence["artifacts"]) == (1, {"1": "a" * 64})
    for headers, status in (({}, "401"), (key(stack, "acme", Scope.PREDICT), "403")):
        api.post("/v1/models/m/promote", json={"version": 1}, headers=headers)
        assert last_entry(stack).outcome == status
    assert last_entry(stack).tenant == "acme"
    before = last_entry(stack).sequence
    api.get("/v1/models", headers=mine)
    assert last_entry(stack).sequence == before
    seen = api.get("/v1/audit", headers=mine).json()["entries"]
    assert {one["tenant"] for one in seen} == {"other"}
    assert api.get("/v1/audit/verify", headers=key(stack, "default")).json()["broken"] is None


def test_the_operator_makes_bounds_blocks_and_removes_tenants(api: TestClient, stack: FakeStack) -> None:
    operator = key(stack, "default", Scope.ADMIN)
    assert api.post("/v1/tenants", json={"name": "new"}, headers=operator).status_code == 201
    assert api.post("/v1/tenants", json={"name": "new"}, headers=operator).status_code == 422
    api.put("/v1/tenants/new/quotas", json={"requests_per_s": 5}, headers=operator)
    api.put("/v1/tenants/new/state", json={"state": "blocked"}, headers=operator)
    seen = api.get("/v1/tenants/new", headers=operator).json()
    assert (seen["tenant"]["state"], seen["tenant"]["quotas"]["requests_per_s"], seen["models"]) == ("blocked", 5, 0)
    made = api.post("/v1/keys?tenant=new", json={"scopes": ["admin"]}, headers=operator).json()
    assert made["tenant"] == "new"
    own = {"x-api-key": made["text"]}
    assert api.get("/v1/tenants/new", headers=own).status_code == 200
    anothers, missing = (api.get(f"/v1/tenants/{name}", headers=own).content for name in ("acme", "nope"))
    assert anothers.replace(b"acme", b"nope") == missing
    assert api.delete("/v1/tenants/new", headers=operator).status_code == 200
    assert api.get("/v1/models", headers=own).status_code == 401
    assert api.delete("/v1/tenants/acme", headers=operator).status_code == 422


def test_keys_are_shown_once_rotated_with_overlap_and_revoked_at_once(api: TestClient, stack: FakeStack) -> None:
    admin = key(stack)
    made = api.post("/v1/keys", json={"scopes": ["deploy"], "label": "ci"}, headers=admin)
    assert made.headers["cache-control"] == "no-store"
    first = made.json()
    rotated = api.post(f"/v1/keys/{first['id']}/rotate", json={"overlap_s": 60}, headers=admin).json()
    for one in (first, rotated):
        assert api.get("/v1/models", headers={"x-api-key": one["text"]}).status_code == 200
    at_once = api.post(f"/v1/keys/{rotated['id']}/rotate", json={"overlap_s": 0}, headers=admin).json()
    assert api.get("/v1/models", headers={"x-api-key": rotated["text"]}).status_code == 401
    assert api.delete(f"/v1/keys/{at_once['id']}", headers=admin).json()["holds"] is False
    assert api.get("/v1/models", headers={"x-api-key": at_once["text"]}).status_code == 401
    assert api.delete(f"/v1/keys/{first['id']}", headers=key(stack, "other")).status_code == 404
    listed = api.get("/v1/keys", headers=admin).json()["keys"]
    assert {"id": first["id"], "label": "ci"}.items() <= next(one for one in listed if one["id"] == first["id"]).items()
    assert "text" not in json.dumps(listed)


def test_a_keys_text_is_in_the_gateways_files_and_nowhere_else(
    api: TestClient, stack: FakeStack, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    admin = key(stack)
    headers = admin | {"Idempotency-Key": "once"}
    text = api.post("/v1/keys", json={"scopes": ["deploy"]}, headers=headers).json()["text"]
    api.post(f"/v1/keys/{text}/rotate", json={}, headers=admin)
    made = stack.platform.key_ring.make("acme", (Scope.PREDICT,), "")
    secrets = [one.split("_", 2)[2].encode() for one in (text, admin["x-api-key"], made.text.get_secret_value())]
    home = stack.platform.settings.home
    holding = {
        path.parent.name
        for path in home.rglob("*")
        if path.is_file() and any(one in path.read_bytes() for one in secrets)
    }
    assert holding == {"gateway"}
    assert {
        path.stat().st_mode & 0o777 for path in (home / "gateway").iterdir() if secrets[0] in path.read_bytes()
    } == {0o600}
    logged = [record.getMessage() for record in caplog.records if not record.name.startswith("httpx")]  # the test's own
    said = f"{logged} {made!r} {stack.platform.ledger.keys.all()!r}"
    assert not any(one.decode() in said for one in secrets)


def test_a_resumable_upload_is_its_tenants(api: TestClient, stack: FakeStack) -> None:
    mine, theirs = key(stack), key(stack, "other")
    metadata = {"Upload-Metadata": "filename bW9kZWwub25ueA==", "Upload-Length": str(len(MODEL))}
    place = api.post("/v1/uploads", headers=mine | metadata).headers["location"]
    part = {"Upload-Offset": "0", "Content-Type": "application/offset+octet-stream"}
    for method in ("HEAD", "PATCH", "DELETE"):
        answers = [
            api.request(method, path, headers=theirs | part, content=MODEL if method == "PATCH" else None)
            for path in (place, f"/v1/uploads/{'0' * 32}")
        ]
        assert {answer.status_code for answer in answers} == {404}
        assert answers[0].content.replace(place[-32:].encode(), b"0" * 32) == answers[1].content
    done = api.patch(place, headers=mine | part, content=MODEL)
    assert stack.platform.ledger.tenants.owns("acme", done.headers["x-burnish-artifact"])
    assert last_entry(stack).evidence["artifact"] == done.headers["x-burnish-artifact"]


def test_quotas_refuse_what_would_be_too_much(api: TestClient, stack: FakeStack) -> None:
    stack.platform.ledger.tenants.add("small", Quotas(models=1, versions=2, stored_bytes=5000))
    mine = key(stack, "small")
    digest = api.put("/v1/artifacts/model.onnx", content=MODEL, headers=mine).json()["digest"]
    assert api.put("/v1/artifacts/model.onnx", content=MODEL, headers=mine).status_code == 200
    refused = api.put("/v1/artifacts/model.onnx", content=b"y" * 5000, headers=mine)
    assert refused.status_code == 403
    assert (
        f"the quota stored_bytes of this tenant is used up: {len(MODEL)} of 5000, and 5000 more asked"
        in refused.json()["detail"]
    )
    body = {"source": digest, "evaluation": digest}
    assert api.post("/v1/models/a/optimizations", json=body, headers=mine).status_code == 202
    second_model = api.post("/v1/models/b/optimizations", json=body, headers=mine)
    assert (second_model.status_code, "quota models" in second_model.json()["detail"]) == (403, True)
    assert api.post("/v1/models/a/optimizations", json=body, headers=mine).status_code == 202
    third_version = api.post("/v1/models/a/optimizations", json=body, headers=mine)
    assert (third_version.status_code, "quota versions" in third_version.json()["detail"]) == (403, True)
    assert last_entry(stack).outcome == "403"


def test_an_answer_that_cannot_be_audited_does_not_leave(
    api: TestClient, stack: FakeStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(_draft: object) -> None:
        raise RegistryError("the head of the audit is gone")

    monkeypatch.setattr(stack.platform.ledger.audit, "append", gone)
    answer = api.post("/v1/models/m/monitor", headers=key(stack))
    assert (answer.status_code, "not in the audit" in answer.json()["detail"]) == (503, True)
