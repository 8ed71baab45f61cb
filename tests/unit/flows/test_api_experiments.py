"""Experiments through the API: begun with their split, looked at by what came as feedback, ended with one arm."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from fastapi.testclient import TestClient

from burnish.cli.experiments import experiment as command
from burnish.client import Client
from flows.api_app import build_app
from serving.engine.catalog import read_entry
from tests.unit.burnish.bridge import CONTROL, GATEWAY, answer_with, by_host, to_app
from tests.unit.flows.api_stack import FakeStack, fake_stack

PATH = "/v1/models/digits/experiments"
HALVES = {"weights": {"1": 50, "2": 50}}
BODY: dict[str, object] = {"split": HALVES, "metric": "top1", "hypothesis": "2 is better"}


@pytest.fixture
def stack(tmp_path: Path) -> FakeStack:
    made = fake_stack(tmp_path)
    for _ in range(3):
        made.register()
    return made


@pytest.fixture
def api(stack: FakeStack) -> Iterator[TestClient]:
    with TestClient(build_app(stack.platform)) as client:
        client.post("/v1/models/digits/promote", json={"version": 1})
        yield client


def capture(stack: FakeStack, version: int, requests: int, samples: int = 2) -> list[str]:
    """Capture requests that a version answered, all with class 1, and return their ids."""
    served = next(one for one in stack.platform.ledger.served("digits") if one.version == version)
    ids = [f"{version}-{number}" for number in range(requests)]
    now = int(datetime.now(UTC).timestamp() * 1000)
    rows = requests * samples
    table = pa.table(
        {
            "request_id": np.repeat(ids, samples),
            "row": pa.array(np.tile(np.arange(samples), requests), pa.int32()),
            "timestamp": pa.array([now] * rows, pa.int64()),
            "version": pa.array([version] * rows, pa.int32()),
            "artifact": [served.artifact.sha256] * rows,
            "input:x": pa.array([[0.0, 0.0]] * rows, pa.list_(pa.float32())),
            "output:y": pa.array([[0.0, 1.0]] * rows, pa.list_(pa.float32())),
        }
    )
    folder = stack.platform.settings.capture_folder / "digits"
    folder.mkdir(parents=True, exist_ok=True)
    metadata = {"burnish.signature": served.signature.model_dump_json()}
    pq.write_table(table.replace_schema_metadata(metadata), folder / f"{now + 1000}-{version}-0.parquet")
    return ids


def tell(api: TestClient, request_id: str, **told: object) -> None:
    body = {"model": "digits", "request_id": request_id, **told}
    assert api.post("/v1/feedback", json=body).status_code == 202


def test_arms_are_compared_by_labels_and_the_better_one_gets_the_traffic(api: TestClient, stack: FakeStack) -> None:
    begun = api.post(PATH, json=BODY)
    assert begun.status_code == 201
    path = f"{PATH}/{begun.json()['id']}"
    entry = read_entry(stack.platform.settings.catalog_folder / "digits.json")
    assert entry.split is not None
    assert entry.split.weights == {1: 50, 2: 50}
    nothing = api.get(path).json()
    assert [(arm["scored"], arm["mean"], arm["verdict"]) for arm in nothing["arms"]] == [
        (0, None, "control"),
        (0, None, "undecided"),
    ]
    assert "no captured request" in nothing["notes"][0]

    for request_id in capture(stack, 1, 40)[:30]:
        tell(api, request_id, labels=[0, 1])  # one of two samples is right
    for request_id in capture(stack, 2, 40):
        tell(api, request_id, labels=[1, 1])
    control, arm = api.get(path).json()["arms"]
    assert [(one["version"], one["captured"], one["scored"]) for one in (control, arm)] == [(1, 40, 30), (2, 40, 40)]
    assert (control["mean"]["estimate"], arm["mean"]["estimate"]) == (0.5, 1.0)
    assert arm["verdict"] == "better"
    assert arm["difference"]["low"] > 0

    ended = api.post(f"{path}/end", json={"promote": 2, "reason": "better"})
    assert (ended.json()["route"]["champion"], ended.json()["acknowledged"]) == (2, [0, 1])
    assert api.get(path).json()["experiment"]["promoted"] == 2
    assert api.post(f"{path}/end", json={}).status_code == 409
    audited = api.get("/v1/audit").json()["entries"]
    evidence = next(
        entry["evidence"] for entry in audited if entry["target"].endswith("/end") and "verdicts" in entry["evidence"]
    )
    assert evidence["verdicts"] == {"1": "control of 30", "2": "better of 40"}


def test_arms_are_compared_by_scores_until_the_split_is_replaced(api: TestClient, stack: FakeStack) -> None:
    begun = api.post(PATH, json=BODY | {"metric": "score"}).json()
    for request_id in capture(stack, 1, 50):
        tell(api, request_id, score=0.9)
    for request_id in capture(stack, 2, 50):
        tell(api, request_id, score=0.1)
    path = f"{PATH}/{begun['id']}"
    view = api.get(path).json()
    assert ([arm["verdict"] for arm in view["arms"]], view["until"]) == (["control", "worse"], None)
    assert view["arms"][1]["mean"]["estimate"] == pytest.approx(0.1)
    api.post("/v1/models/digits/promote", json={"version": 3})
    assert api.get(path).json()["until"] is not None
    assert api.post(f"{path}/end", json={}).json()["route"]["champion"] == 3


def test_what_makes_no_experiment_is_refused(api: TestClient, stack: FakeStack) -> None:
    refusals: list[tuple[int, dict[str, object]]] = [
        (404, {"split": {"weights": {"1": 50, "9": 50}}}),
        (409, {"expected_generation": 7}),
        (422, {"split": {"weights": {"1": 100}}}),
        (422, {"split": {"weights": {"2": 50, "3": 50}}}),
        (422, {"metric": "latency"}),
        (422, {"confidence": 1}),
    ]
    for status, wrong in refusals:
        answer = api.post(PATH, json=BODY | wrong)
        assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json"), wrong
    assert api.get("/v1/models/digits/traffic").json()["split"] == {"weights": {"1": 100}}
    assert api.get(PATH).json() == {"next": None, "experiments": []}
    assert api.get("/v1/models/other/experiments").status_code == 404
    assert api.get(f"{PATH}/{'0' * 32}").status_code == 404


def test_labels_that_do_not_suit_are_said_and_the_experiment_can_be_ended(api: TestClient, stack: FakeStack) -> None:
    begun = api.post(PATH, json=BODY).json()
    tell(api, capture(stack, 1, 1)[0], labels=[7, 0.5])
    view = api.get(f"{PATH}/{begun['id']}").json()
    assert view["arms"][0]["captured"] == 1
    assert "top1" in view["notes"][0]
    assert api.post(f"{PATH}/{begun['id']}/end", json={}).status_code == 200


def test_the_client_and_the_command_line_go_the_whole_way(
    api: TestClient, stack: FakeStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer_with(monkeypatch, by_host({CONTROL: to_app(api)}))
    monkeypatch.setenv("BURNISH_CONTROL_URL", CONTROL)
    monkeypatch.setenv("BURNISH_GATEWAY_URL", GATEWAY)
    run = CliRunner().invoke
    begun = run(command, ["start", "digits", "1=50", "2=50", "--metric", "score", "--hypothesis", "is 2 better?"])
    assert begun.output.endswith("the control is version 1\n")
    experiment_id = begun.output.split(":")[0]
    with Client() as client:
        for request_id in capture(stack, 2, 3):
            client.feedback("digits", request_id, score=0.5)
        found = client.experiment("digits", experiment_id)
        assert [(arm.version, arm.scored, arm.verdict) for arm in found.arms] == [
            (1, 0, "control"),
            (2, 3, "undecided"),
        ]
        assert found.arms[1].mean is not None
        assert found.arms[1].mean[0] == 0.5
        assert [one.id for one in client.experiments("digits")] == [experiment_id]
    shown = run(command, ["show", "digits", experiment_id]).output
    assert "is 2 better?: running" in shown
    assert "3 of 3" in shown
    assert "version 2 is the champion" in run(command, ["end", "digits", experiment_id, "--promote", "2"]).output
    assert "ended, version 2 promoted" in run(command, ["list", "digits"]).output
