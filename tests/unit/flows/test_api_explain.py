"""Explain over the API: from a captured request to everything that made it, and clear words where there is none."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient

from flows import releases
from flows.api_app import build_app
from registry.records.change import Promote, SetPolicy
from registry.records.release import Feedback, ServingPolicy
from serving.engine.capture import Capture, CapturedRequest
from serving.engine.retention import Retention
from serving.engine.traffic import sampled
from tests.drafts import change
from tests.unit.flows.api_stack import FakeStack, fake_stack

TAKEN = next(name for name in map("request-{}".format, range(1000)) if sampled(name, 0.1))
PASSED_OVER = next(name for name in map("request-{}".format, range(1000)) if not sampled(name, 0.1))


@pytest.fixture
def stack(tmp_path: Path) -> FakeStack:
    stack = fake_stack(tmp_path)
    for reason in ("better", "better still"):
        version = stack.register()
        promoted = stack.platform.settings.catalog_folder
        releases.change_route(
            stack.platform.ledger,
            promoted,
            change(Promote(version=version.version), actor="flow optimize", reason=reason),
        )
    return stack


@pytest.fixture
def api(stack: FakeStack) -> TestClient:
    return TestClient(build_app(stack.platform))


def capture(stack: FakeStack, request_id: str, number: int = 1) -> None:
    served = next(one for one in stack.platform.ledger.served("digits") if one.version == number)
    x = np.zeros((2, 2), np.float32)
    writer = Capture(stack.platform.settings.capture_folder, 1, Retention(mib=100, days=1))
    writer.offer(CapturedRequest("digits", served, request_id, 2, {"x": x}, {"y": x}))
    writer.close()


def ask(api: TestClient, **query: str) -> tuple[int, dict[str, Any]]:
    reply = api.get("/v1/explain", params=query)
    return reply.status_code, reply.json()


def test_a_captured_request_leads_to_all_that_made_its_answer(stack: FakeStack, api: TestClient) -> None:
    capture(stack, "id-1")
    stack.platform.ledger.change_route(
        change(SetPolicy(policy=ServingPolicy(pinned=True)), actor="CLI", reason="no release")
    )
    stack.platform.ledger.add_feedback(Feedback(model="digits", request_id="id-1", labels=(1, 2)))
    status, found = ask(api, request_id="id-1")
    assert status == 200, found
    request = found["request"]
    assert (request["model"], request["version"], request["samples"]) == ("digits", 1, 2)
    assert Path(request["file"]).is_file()
    assert found["feedback"]["labels"] == [1, 2]
    (version,) = found["versions"]
    assert version["served"]["artifact"]["sha256"] == request["artifact"] == "a" * 64
    assert version["served"]["runtime"] == {"name": "onnxruntime", "knobs": {"threads": 1}}
    draft = version["registered"]["draft"]
    assert [step["name"] for step in draft["recipe"]] == ["export_onnx"]
    assert draft["gate"]["outcomes"][0]["rule"] == "fidelity"
    assert (draft["evaluation_set"], draft["report"], draft["source"]["sha256"]) == ("e" * 64, "f" * 64, "a" * 64)
    assert [(event["generation"], event["reason"]) for event in version["releases"]] == [
        (1, "better"),
        (2, "better still"),
    ]
    assert (found["in_force"]["generation"], found["in_force"]["actor"]) == (2, "flow optimize")
    assert version["share"] == 0


def test_a_request_of_a_model_is_looked_for_there_only(stack: FakeStack, api: TestClient) -> None:
    capture(stack, TAKEN)
    assert ask(api, request_id=TAKEN, model="digits")[0] == 200
    assert ask(api, request_id=TAKEN, model="other")[0] == 422


def test_without_the_registry_what_the_ledger_holds_is_told(stack: FakeStack, api: TestClient) -> None:
    capture(stack, "id-1")
    stack.store.down = True
    status, found = ask(api, request_id="id-1")
    (version,) = found["versions"]
    assert (status, version["registered"], len(version["releases"])) == (200, None, 2)
    assert "MLflow does not answer" in version["registry_unavailable"]


def test_a_request_that_was_not_captured_is_told_why(api: TestClient) -> None:
    status, problem = ask(api, request_id=PASSED_OVER)
    assert status == 422
    assert f"{PASSED_OVER} was not captured: 10 % of the requests are sampled" in problem["detail"]
    assert "not among them" in problem["detail"] and "--artifact" in problem["detail"]
    status, problem = ask(api, request_id=TAKEN)
    assert status == 422
    assert "among those that are sampled" in problem["detail"]
    assert "(7 were since the workers started)" in problem["detail"]


def test_an_artifact_or_its_first_digits_lead_to_every_version_made_of_it(api: TestClient) -> None:
    for digits in ("a" * 64, "a" * 8):
        status, found = ask(api, artifact=digits)
        assert status == 200
        assert [version["served"]["version"] for version in found["versions"]] == [1, 2]
        assert (found["request"], found["feedback"]) == (None, None)
    for other in ("e" * 64, "b" * 8):
        status, problem = ask(api, artifact=other)
        assert (status, f"begins with {other}" in problem["detail"]) == (422, True)


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ({}, "one of the two"),
        ({"request_id": "a", "artifact": "a" * 64}, "one of the two"),
        ({"request_id": "with space"}, "query.request_id"),
        ({"request_id": "x" * 129}, "query.request_id"),
        ({"artifact": "XYZ"}, "query.artifact"),
        ({"artifact": "abc"}, "query.artifact"),
        ({"request_id": "a", "model": "../etc"}, "query.model"),
    ],
)
def test_what_cannot_be_asked_is_refused(api: TestClient, query: dict[str, str], message: str) -> None:
    status, problem = ask(api, **query)
    assert (status, message in problem["detail"]) == (422, True)
