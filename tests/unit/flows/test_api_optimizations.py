import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from flows.api_app import build_app
from flows.progress import Cancelled, Progress, queued
from registry.records.optimization import OptimizationRequest
from registry.records.release import OptimizationState
from tests import uploads
from tests.unit.flows.api_stack import FakeStack, fake_stack


@pytest.fixture
def stack(tmp_path: Path) -> FakeStack:
    return fake_stack(tmp_path)


@pytest.fixture
def api(stack: FakeStack) -> Iterator[TestClient]:
    with TestClient(build_app(stack.platform)) as client:
        yield client


@pytest.fixture
def body(api: TestClient) -> dict[str, Any]:
    def upload(name: str) -> str:
        return str(api.put(f"/v1/artifacts/{name}", content=uploads.BY_SUFFIX[Path(name).suffix]).json()["digest"])

    return {
        "source": upload("model.pt2"),
        "evaluation": upload("evaluation.npz"),
        "config": {"policy": "min_size", "budget_minutes": 1},
    }


def test_start_saves_the_status_and_starts_the_flow(api: TestClient, stack: FakeStack, body: dict[str, Any]) -> None:
    answer = api.post("/v1/models/digits/optimizations", json=body)
    assert answer.status_code == 202
    started = answer.json()
    assert (started["state"], started["flow_run"]) == ("queued", "run-0")
    run = stack.prefect.runs[0]
    request = run["parameters"]["request"]
    assert run["deployment"] == "optimize"
    assert run["idempotency_key"] == request["id"] == started["id"]
    assert (request["model"], request["source"], request["evaluation"]) == (
        "digits",
        body["source"],
        body["evaluation"],
    )
    assert request["config"]["policy"] == "min_size"

    seen = api.get(f"/v1/optimizations/{started['id']}").json()
    assert seen["status"]["state"] == "queued"
    assert seen["flow_run"]["url"] == "http://127.0.0.1:4200/runs/flow-run/run-0"
    assert api.get("/v1/optimizations", params={"model": "other"}).json() == {"optimizations": [], "next": None}


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"source": "0" * 64}, "source"),
        ({"calibration": "0" * 64}, "calibration"),
        ({"config": {"polcy": "min_size"}}, "polcy"),
        ({"config": {"policy": "fastest"}}, "policy"),
        ({"config": {"seed": 10**20}}, "seed"),
        ({"config": {"seed": -1}}, "seed"),
        ({"config": {"batch_sizes": [1, 10**20]}}, "batch_sizes"),
        ({"evaluation": "short"}, "evaluation"),
    ],
)
def test_bad_request_is_422_and_leaves_no_row(
    api: TestClient, stack: FakeStack, body: dict[str, Any], change: dict[str, Any], named: str
) -> None:
    answer = api.post("/v1/models/digits/optimizations", json=body | change)
    assert answer.status_code == 422
    assert named in answer.json()["detail"]
    assert stack.platform.ledger.optimizations() == ()
    assert stack.prefect.runs == []


def test_prefect_down_is_503_and_the_status_says_so(api: TestClient, stack: FakeStack, body: dict[str, Any]) -> None:
    stack.prefect.down = True
    answer = api.post("/v1/models/digits/optimizations", json=body)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
    (status,) = stack.platform.ledger.optimizations()
    assert status.state is OptimizationState.FAILED
    assert "Prefect does not answer" in status.message
    view = api.get(f"/v1/optimizations/{status.id}").json()
    assert view["flow_run"] is None
    assert "Prefect does not answer" in view["prefect_unavailable"]


def test_of_a_start_that_is_sent_again_because_prefect_stalled_one_goes_on(
    api: TestClient, stack: FakeStack, body: dict[str, Any]
) -> None:
    stack.prefect.stalled = True
    for status in (503, 202):
        answer = api.post("/v1/models/digits/optimizations", json=body, headers={"Idempotency-Key": "push"})
        assert answer.status_code == status
        stack.prefect.stalled = False
    first, second = (OptimizationRequest.model_validate(run["parameters"]["request"]) for run in stack.prefect.runs)
    with pytest.raises(Cancelled):
        Progress(stack.platform.ledger, first, "run-0")
    assert Progress(stack.platform.ledger, second, "run-1").status.state is OptimizationState.RUNNING


def test_what_is_cancelled_before_prefect_has_its_run_does_not_go_on(
    api: TestClient, stack: FakeStack, body: dict[str, Any]
) -> None:
    request = OptimizationRequest(model="digits", source=body["source"], evaluation=body["evaluation"])
    stack.platform.ledger.save_optimization(queued(request))
    cancelled = api.post(f"/v1/optimizations/{request.id}/cancel").json()
    assert (cancelled["status"]["state"], cancelled["flow_run"]) == ("cancelled", None)
    with pytest.raises(Cancelled):
        Progress(stack.platform.ledger, request, "run-0")
    assert stack.platform.ledger.optimization(request.id).state is OptimizationState.CANCELLED


def test_runner_not_up_is_503(api: TestClient, stack: FakeStack, body: dict[str, Any]) -> None:
    stack.prefect.deployments = ()
    answer = api.post("/v1/models/digits/optimizations", json=body)
    assert answer.status_code == 503
    assert "is the runner up" in answer.json()["detail"]


def test_parameters_that_prefect_refuses_are_422(api: TestClient, stack: FakeStack, body: dict[str, Any]) -> None:
    stack.prefect.refusal = 409
    assert api.post("/v1/models/digits/optimizations", json=body).status_code == 422
    assert stack.platform.ledger.optimizations()[0].state is OptimizationState.INVALID


def test_result_and_report_come_from_the_artifact_store(
    api: TestClient, stack: FakeStack, body: dict[str, Any], tmp_path: Path
) -> None:
    identifier = api.post("/v1/models/digits/optimizations", json=body).json()["id"]
    early = api.get(f"/v1/optimizations/{identifier}/report")
    assert early.status_code == 404
    assert "its state is queued" in early.json()["detail"]

    page = tmp_path / "page"
    page.mkdir()
    (page / "result.json").write_text('{"candidates": []}')
    (page / "report.html").write_text("<h1>report</h1>")
    status = stack.platform.ledger.optimization(identifier)
    digest = stack.platform.artifacts.put(page)
    stack.platform.ledger.save_optimization(status.model_copy(update={"result": digest}))
    report = api.get(f"/v1/optimizations/{identifier}/report")
    assert (report.text, report.headers["content-type"]) == ("<h1>report</h1>", "text/html; charset=utf-8")
    assert json.loads(api.get(f"/v1/optimizations/{identifier}/result").content) == {"candidates": []}


def test_cancel_stops_what_runs_and_ends_what_has_not_begun(
    api: TestClient, stack: FakeStack, body: dict[str, Any]
) -> None:
    ledger = stack.platform.ledger
    waiting, running = (api.post("/v1/models/digits/optimizations", json=body).json()["id"] for _ in range(2))
    stack.prefect.runs[1] |= {"state_type": "RUNNING", "state_name": "Running"}
    ended = api.post(f"/v1/optimizations/{waiting}/cancel")
    assert (ended.status_code, ended.json()["status"]["state"]) == (202, "cancelled")
    for _ in range(2):
        asked = api.post(f"/v1/optimizations/{running}/cancel")
        assert (asked.status_code, asked.json()["status"]["state"]) == (202, "cancelling")
    assert [run["state_type"] for run in stack.prefect.runs] == ["CANCELLED", "CANCELLING"]
    ledger.save_optimization(ledger.optimization(running).model_copy(update={"state": OptimizationState.CANCELLED}))
    for identifier in (waiting, running):
        assert api.post(f"/v1/optimizations/{identifier}/cancel").status_code == 409


def test_what_is_cancelled_while_prefect_is_down_is_cancelled_when_it_is_back(
    api: TestClient, stack: FakeStack, body: dict[str, Any]
) -> None:
    identifier = api.post("/v1/models/digits/optimizations", json=body).json()["id"]
    stack.prefect.runs[0] |= {"state_type": "RUNNING", "state_name": "Running"}
    stack.prefect.down = True
    answer = api.post(f"/v1/optimizations/{identifier}/cancel")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
    assert stack.platform.ledger.optimization(identifier).state is OptimizationState.CANCELLING
    stack.prefect.down = False
    stack.platform.reconciler.look()
    assert stack.prefect.runs[0]["state_type"] == "CANCELLING"
    stack.prefect.end("CANCELLED")
    stack.platform.reconciler.look()
    assert stack.platform.ledger.optimization(identifier).state is OptimizationState.CANCELLED


def test_unknown_optimization_is_404(api: TestClient) -> None:
    answer = api.get("/v1/optimizations/nope")
    assert answer.status_code == 404
    assert answer.json()["type"] == "urn:burnish:not-found"
