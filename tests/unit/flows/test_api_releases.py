from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from flows.api_app import build_app
from registry.errors import ModelNotFound
from registry.records.model import ModelVersion
from registry.records.release import Feedback
from registry.store.base import CHAMPION
from serving.engine.catalog import read_entry
from tests.unit.flows.api_stack import FakeStack, fake_stack


@pytest.fixture
def stack(tmp_path: Path) -> FakeStack:
    return fake_stack(tmp_path)


@pytest.fixture
def api(stack: FakeStack) -> Iterator[TestClient]:
    with TestClient(build_app(stack.platform)) as client:
        yield client


def test_promote_and_rollback_reach_ledger_catalog_and_workers(api: TestClient, stack: FakeStack) -> None:
    stack.register()
    stack.register()
    assert api.post("/v1/models/digits/promote", json={"version": 1}).json()["route"]["generation"] == 1
    promoted = api.post("/v1/models/digits/promote", json={"version": 2, "expected_generation": 1, "reason": "why"})
    assert promoted.json()["route"]["champion"] == 2
    assert (promoted.json()["acknowledged"], promoted.json()["pending"]) == ([0, 1], [])
    entry = read_entry(stack.platform.settings.catalog_folder / "digits.json")
    assert entry.split is not None
    assert entry.split.weights == {2: 100}

    back = api.post("/v1/models/digits/rollback", json={}).json()
    assert (back["route"]["champion"], back["route"]["generation"]) == (1, 3)
    events = api.get("/v1/models/digits/history").json()["events"]
    assert [(event["action"], event["champion"], event["reason"]) for event in events] == [
        ("promote", 1, ""),
        ("promote", 2, "why"),
        ("rollback", 1, ""),
    ]


def test_policy_and_shadow_reach_ledger_catalog_and_workers(api: TestClient, stack: FakeStack) -> None:
    stack.register()
    stack.register(admit=False)
    assert api.get("/v1/models/digits/policy").json()["generation"] == 0
    api.post("/v1/models/digits/promote", json={"version": 1})
    policy = api.get("/v1/models/digits/policy").json()["policy"] | {"max_waiting": 7}
    changed = api.put("/v1/models/digits/policy", json={"policy": policy, "expected_generation": 1}).json()
    assert (changed["route"]["generation"], changed["acknowledged"]) == (2, [0, 1])
    body = {"shadow": {"version": 2, "percent": 20}, "reason": "look"}
    assert api.put("/v1/models/digits/shadow", json=body).json()["route"]["generation"] == 3
    entry = read_entry(stack.platform.settings.catalog_folder / "digits.json")
    assert (entry.generation, entry.policy.max_waiting) == (3, 7)
    assert entry.shadow is not None
    assert (entry.shadow.version, entry.shadow.percent) == (2, 20)
    ended = api.delete("/v1/models/digits/shadow", params={"reason": "seen"}).json()
    assert (ended["route"]["generation"], ended["route"]["shadow"]) == (4, None)
    assert read_entry(stack.platform.settings.catalog_folder / "digits.json").shadow is None
    events = api.get("/v1/models/digits/history").json()["events"]
    assert [(event["action"], event["reason"]) for event in events[1:]] == [
        ("policy", ""),
        ("shadow", "look"),
        ("shadow", "seen"),
    ]


def test_traffic_reaches_ledger_catalog_and_workers_and_a_promotion_ends_it(api: TestClient, stack: FakeStack) -> None:
    assert api.get("/v1/models/digits/traffic").status_code == 404
    for _ in range(3):
        stack.register(admit=False)
    api.post("/v1/models/digits/promote", json={"version": 1})
    api.put("/v1/models/digits/shadow", json={"shadow": {"version": 2}})
    split = {"weights": {"1": 90, "2": 10}}
    changed = api.put("/v1/models/digits/traffic", json={"split": split, "expected_generation": 2, "reason": "try"})
    assert (changed.status_code, changed.headers["etag"], changed.json()["acknowledged"]) == (200, '"3"', [0, 1])
    found = api.get("/v1/models/digits/traffic").json()
    assert found == {"generation": 3, "champion": 1, "split": {"weights": {"1": 90.0, "2": 10.0}}}
    entry = read_entry(stack.platform.settings.catalog_folder / "digits.json")
    assert entry.split is not None
    assert (entry.split.weights, entry.shadow) == ({1: 90, 2: 10}, None)
    promoted = api.post("/v1/models/digits/promote", json={"version": 1}).json()
    assert promoted["route"]["split"] == {"weights": {"1": 100.0}}
    actions = [event["action"] for event in api.get("/v1/models/digits/history").json()["events"]]
    assert actions == ["promote", "shadow", "traffic", "promote"]


def test_a_route_is_sent_once_and_changed_only_by_who_has_seen_it(api: TestClient, stack: FakeStack) -> None:
    stack.register()
    stack.register()
    api.post("/v1/models/digits/promote", json={"version": 1}, headers={"If-Match": '"0"'})
    for path in ("/v1/models/digits/policy", "/v1/models/digits/traffic"):
        seen = api.get(path)
        assert seen.headers["etag"] == '"1"'
        again = api.get(path, headers={"If-None-Match": '"1"'})
        assert (again.status_code, again.content) == (304, b"")
    changes: list[tuple[str, str, dict[str, object]]] = [
        ("POST", "promote", {"version": 2}),
        ("POST", "rollback", {}),
        ("PUT", "policy", {"policy": {}}),
        ("PUT", "shadow", {"shadow": {"version": 2}}),
        ("PUT", "traffic", {"split": {"weights": {"1": 50, "2": 50}}}),
    ]
    for method, path, body in changes:
        refused = api.request(method, f"/v1/models/digits/{path}", json=body, headers={"If-Match": '"4"'})
        assert (refused.status_code, refused.json()["type"]) == (412, "urn:burnish:precondition-failed"), path
    assert api.delete("/v1/models/digits/shadow", headers={"If-Match": '"4"'}).status_code == 412
    won = api.post("/v1/models/digits/promote", json={"version": 2}, headers={"If-Match": '"1"'})
    assert (won.status_code, won.headers["etag"]) == (200, '"2"')
    assert api.get("/v1/models/digits/traffic", headers={"If-None-Match": '"1"'}).json()["generation"] == 2


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("digits/traffic", {"split": {"weights": {"1": 50, "2": 40}}}, 422),
        ("digits/traffic", {"split": {"weights": {"1": 100, "2": 0}}}, 422),
        ("digits/traffic", {"split": {"weights": {"2": 100}}}, 422),
        ("digits/traffic", {"split": {"weights": {"1": 110, "2": -10}}}, 422),
        ("digits/traffic", {"split": {"weights": {"one": 100}}}, 422),
        ("digits/traffic", {"split": {"weights": {}}}, 422),
        ("digits/traffic", {"split": {"weights": {"1": 50, "9": 50}}}, 404),
        ("digits/traffic", {"split": {"weights": {"1": 100}}, "expected_generation": 5}, 409),
        ("digits/shadow", {"shadow": {"version": 1}}, 422),
        ("digits/shadow", {"shadow": {"version": 9}}, 404),
        ("digits/shadow", {"shadow": {"version": 2, "percent": 0}}, 422),
        ("digits/shadow", {"shadow": {"version": 2}, "expected_generation": 5}, 409),
        ("digits/policy", {"policy": {"max_waiting": 0}}, 422),
        ("digits/policy", {"policy": {"maximum": 1}}, 422),
        ("digits/policy", {"policy": {}, "expected_generation": 5}, 409),
        ("other/policy", {"policy": {}}, 404),
    ],
)
def test_refused_policy_or_shadow_changes_nothing(
    api: TestClient, stack: FakeStack, path: str, body: dict[str, object], status: int
) -> None:
    stack.register()
    stack.register()
    api.post("/v1/models/digits/promote", json={"version": 1})
    before = stack.platform.ledger.routes()
    assert api.put(f"/v1/models/{path}", json=body).status_code == status
    assert stack.platform.ledger.routes() == before


def test_promotion_works_with_prefect_and_mlflow_down(api: TestClient, stack: FakeStack) -> None:
    stack.register()
    stack.store.down = stack.prefect.down = True
    assert api.post("/v1/models/digits/promote", json={"version": 1}).status_code == 200
    found = stack.platform.reconciler.look()
    assert found.mirrors.startswith("cannot be looked at")
    stack.store.down = False
    assert stack.platform.reconciler.look().mirrors == "in step"
    assert stack.store.alias("digits", CHAMPION) == 1


def test_worker_that_does_not_answer_is_pending(api: TestClient, stack: FakeStack) -> None:
    stack.register()
    stack.doors.stuck = {1}
    answer = api.post("/v1/models/digits/promote", json={"version": 1}).json()
    assert (answer["acknowledged"], answer["pending"]) == ([0], [1])


def test_version_that_was_registered_but_never_admitted_can_be_promoted(api: TestClient, stack: FakeStack) -> None:
    stack.register()
    stack.register(admit=False)
    assert api.post("/v1/models/digits/promote", json={"version": 2}).json()["route"]["champion"] == 2


@pytest.mark.parametrize(
    ("path", "body", "status", "kind"),
    [
        ("digits/promote", {"version": 1, "expected_generation": 7}, 409, "version-conflict"),
        ("digits/promote", {"version": 9}, 404, "not-found"),
        ("digits/promote", {"version": 0}, 422, "input-error"),
        ("digits/promote", {"version": 1, "genration": 1}, 422, "input-error"),
        ("digits/rollback", {}, 422, "input-error"),
        ("unknown/rollback", {}, 404, "not-found"),
        ("Not A Name/rollback", {}, 422, "input-error"),
        ("unknown/monitor", {}, 404, "not-found"),
    ],
)
def test_refused_release_is_a_problem_and_changes_nothing(
    api: TestClient, stack: FakeStack, path: str, body: dict[str, int], status: int, kind: str
) -> None:
    stack.register()
    answer = api.post(f"/v1/models/{path}", json=body)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert set(answer.json()) == {"type", "title", "status", "detail"}
    assert answer.json()["type"] == f"urn:burnish:{kind}"
    assert stack.platform.ledger.routes() == ()


def test_a_version_that_is_not_there_is_told_as_the_caller_knows_it(
    api: TestClient, stack: FakeStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    def version(model: str, number: int) -> ModelVersion:
        raise ModelNotFound(f"MLflow at http://10.0.0.1:5000 has no {number} of {model}")

    stack.register()
    monkeypatch.setattr(stack.store, "version", version)
    answer = api.post("/v1/models/digits/promote", json={"version": 9})
    told = "there is no version 9 of 'digits'; `burnish versions digits` lists those there are"
    assert (answer.status_code, answer.json()["detail"]) == (404, told)


def test_versions_show_registry_and_traffic(api: TestClient, stack: FakeStack) -> None:
    stack.register()
    stack.register()
    api.post("/v1/models/digits/promote", json={"version": 2})
    view = api.get("/v1/models/digits/versions").json()
    assert [(version["version"], version["share"]) for version in view["versions"]] == [(1, 0.0), (2, 100.0)]
    assert view["versions"][0]["registered"]["draft"]["recipe"] == [{"name": "export_onnx", "knobs": {}}]
    assert view["registry_unavailable"] is None
    assert [v["version"] for v in api.get("/v1/models/digits/versions/2").json()["versions"]] == [2]
    assert api.get("/v1/models/digits/versions/3").status_code == 404
    assert api.get("/v1/models/other").status_code == 404
    assert api.get("/v1/models").json()["models"][0]["versions"] == [1, 2]


def test_versions_without_mlflow_come_from_the_ledger_and_say_so(api: TestClient, stack: FakeStack) -> None:
    stack.register()
    stack.store.down = True
    for path in ("/v1/models/digits/versions", "/v1/models/digits/versions/1"):
        view = api.get(path).json()
        assert "MLflow does not answer" in view["registry_unavailable"]
        assert (view["versions"][0]["version"], view["versions"][0]["registered"]) == (1, None)
    assert [model["name"] for model in api.get("/v1/models").json()["models"]] == ["digits"]


def test_monitor_and_retrain_start_their_deployments(api: TestClient, stack: FakeStack) -> None:
    stack.register()
    trainer = stack.platform.settings.trainers[0]
    assert api.post("/v1/models/digits/monitor").status_code == 202
    assert api.post("/v1/models/digits/retrain", json={"trainer": trainer}).status_code == 202
    assert api.post("/v1/models/digits/retrain", json={"trainer": "os:system"}).status_code == 422
    assert [(run["deployment"], run["parameters"]) for run in stack.prefect.runs] == [
        ("monitor", {"model": "digits"}),
        ("retrain", {"model": "digits", "trainer": trainer}),
    ]


def test_feedback_is_kept(api: TestClient, stack: FakeStack) -> None:
    stack.register()
    body = {"model": "digits", "request_id": "r1", "labels": [3, 1]}
    assert api.post("/v1/feedback", json=body).status_code == 202
    assert stack.platform.ledger.feedback("digits") == (Feedback(model="digits", request_id="r1", labels=(3.0, 1.0)),)
    assert api.post("/v1/feedback", json=body | {"model": "other"}).status_code == 404
