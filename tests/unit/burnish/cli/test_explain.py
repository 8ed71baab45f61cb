"""``burnish explain`` against the real application: for people, as JSON, and what cannot be explained."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from fastapi.testclient import TestClient

from burnish.cli import main
from flows import releases
from flows.api_app import build_app
from registry.records.change import Promote
from registry.records.release import Feedback
from serving.engine.capture import Capture, CapturedRequest
from serving.engine.retention import Retention
from tests.drafts import change
from tests.unit.burnish.bridge import answer_with, by_host, to_app
from tests.unit.flows.api_stack import FakeStack, fake_stack


@pytest.fixture(autouse=True)
def stack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeStack]:
    monkeypatch.setenv("BURNISH_HOME", str(tmp_path))
    monkeypatch.delenv("BURNISH_CONTROL_URL", raising=False)
    monkeypatch.setattr("burnish.remote.time.sleep", lambda _: None)
    made = fake_stack(tmp_path)
    version = made.register()
    ledger, settings = made.platform.ledger, made.platform.settings
    releases.change_route(
        ledger, settings.catalog_folder, change(Promote(version=1), actor="flow optimize", reason="it is faster")
    )
    ledger.add_feedback(Feedback(model="digits", request_id="id-1", labels=(7,)))
    writer = Capture(settings.capture_folder, 1, Retention(mib=100, days=1))
    x = np.zeros((1, 2), np.float32)
    writer.offer(CapturedRequest("digits", version.served, "id-1", 1, {"x": x}, {"y": x}))
    writer.close()
    with TestClient(build_app(made.platform)) as api:
        answer_with(monkeypatch, by_host({"http://127.0.0.1": to_app(api)}))
        yield made


def test_a_request_is_explained_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["explain", "id-1"]) == 0
    told = [(line.split(maxsplit=1)) for line in capsys.readouterr().out.splitlines()]
    by_name = dict(told)
    assert by_name["request"] == "id-1"
    assert by_name["model"] == "digits version 1, 100 % of the traffic now"
    assert by_name["artifact"].startswith("a" * 64)
    assert by_name["runtime"] == "onnxruntime(threads=1)"
    assert by_name["recipe"] == "export_onnx"
    assert by_name["gate"] == "fidelity: pass: equal"
    assert by_name["feedback"] == "7"
    assert by_name["release"].endswith("promote of version 1, generation 1, flow optimize: it is faster")
    assert {"evaluation", "source", "report", "captured"} <= set(by_name)


def test_a_request_and_an_artifact_are_explained_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["explain", "id-1", "--model", "digits", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["request"]["labels"], found["request"]["in_force"]["generation"]) == ([7], 1)
    (origin,) = found["origins"]
    assert (origin["model"], origin["version"], origin["registered"]["evaluation_set"]) == ("digits", 1, "e" * 64)
    assert main.run(["explain", "--artifact", "a" * 12, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"request": None, "origins": [origin]}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["id-2"], "id-2 was not captured"),
        (["not an id"], "request_id"),
        (["--artifact", "b" * 64], "no version has an artifact"),
        (["--artifact", "nonsense"], "artifact"),
        ([], "name a request, or an artifact"),
        (["id-1", "--artifact", "a" * 64], "name a request, or an artifact"),
    ],
)
def test_what_cannot_be_explained_ends_with_2(
    capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert main.run(["explain", *arguments]) == 2
    written = capsys.readouterr()
    assert (written.out, message in written.err, "Traceback" in written.err) == ("", True, False)
