"""models, versions, promote, rollback, predict, monitor and retrain, against the real application."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from fastapi.testclient import TestClient

from burnish.cli import main
from burnish.cli.predict import read_inputs
from burnish.errors import InputError
from flows import wiring
from flows.api_app import build_app
from registry.ledger.ledger import Ledger
from registry.records.release import Route
from serving.engine.catalog import read_entry
from tests.unit.burnish.bridge import GATEWAY, answer_with, by_host, to_app
from tests.unit.burnish.test_client import gateway
from tests.unit.flows.api_stack import FakeStack, fake_stack

LOCAL = "http://127.0.0.1"


@pytest.fixture
def stack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeStack:
    monkeypatch.setenv("BURNISH_HOME", str(tmp_path))
    monkeypatch.setenv("BURNISH_GATEWAY_URL", GATEWAY)
    monkeypatch.delenv("BURNISH_CONTROL_URL", raising=False)
    monkeypatch.setattr("burnish.remote.time.sleep", lambda _: None)
    made = fake_stack(tmp_path)
    made.register()
    made.register()
    return made


@pytest.fixture
def up(stack: FakeStack, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeStack]:
    with TestClient(build_app(stack.platform)) as api:
        answer_with(monkeypatch, by_host({LOCAL: to_app(api), GATEWAY: gateway}))
        yield stack


@pytest.fixture
def down(stack: FakeStack, monkeypatch: pytest.MonkeyPatch) -> FakeStack:
    answer_with(monkeypatch, by_host({}))
    return stack


def run_json(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, object]:
    assert main.run([*arguments, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert isinstance(found, dict)
    return found


def live(stack: FakeStack) -> Route:
    ledger = Ledger(stack.platform.settings.ledger_database)
    route = ledger.route("digits")
    ledger.close()
    assert route is not None
    return route


@pytest.mark.usefixtures("up")
def test_promote_rollback_and_what_is_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_json(capsys, "promote", "digits", "1")["acknowledged"] == [0, 1]
    assert run_json(capsys, "promote", "digits", "2", "--if-generation", "1")["generation"] == 2
    found = run_json(capsys, "versions", "digits")
    assert (found["champion"], found["registry_unavailable"]) == (2, None)
    assert run_json(capsys, "models")["models"] == [
        {"name": "digits", "generation": 2, "champion": 2, "versions": [1, 2]}
    ]
    assert main.run(["versions", "digits"]) == 0
    assert main.run(["models"]) == 0
    table = capsys.readouterr().out
    assert "export_onnx" in table
    assert "latency_p50_ms 0.1" in " ".join(table.split())
    assert main.run(["rollback", "digits"]) == 0
    assert "version 1 is the champion, generation 3" in capsys.readouterr().out


@pytest.mark.usefixtures("up")
def test_policy_changes_what_is_named_and_shadow_begins_and_ends(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_json(capsys, "promote", "digits", "1")["generation"] == 1
    assert run_json(capsys, "policy", "digits", "--p99-ms", "5", "--pin")["generation"] == 2
    assert run_json(capsys, "policy", "digits", "--max-waiting", "9", "--non-finite", "pass")["generation"] == 3
    assert run_json(capsys, "policy", "digits", "--p99-ms", "0", "--no-pin")["generation"] == 4
    found = run_json(capsys, "policy", "digits")
    expected = {"max_waiting": 9, "non_finite": "pass", "cache_mib": 0, "pinned": False, "latency_objective_ms": None}
    assert found == {"model": "digits", "generation": 4, "policy": expected}
    assert main.run(["policy", "digits"]) == 0
    assert "max_waiting           9" in capsys.readouterr().out
    assert main.run(["shadow", "digits", "2", "--percent", "5"]) == 0
    assert "version 2 is its shadow for 5 % of the requests, generation 5" in capsys.readouterr().out
    assert run_json(capsys, "shadow", "digits", "--off")["generation"] == 6


@pytest.mark.usefixtures("up")
def test_traffic_is_said_and_split(capsys: pytest.CaptureFixture[str]) -> None:
    run_json(capsys, "promote", "digits", "1")
    assert main.run(["traffic", "digits", "1=90", "2=10", "--if-generation", "1"]) == 0
    assert "the requests go to version 1 90 %, version 2 10 %, generation 2" in capsys.readouterr().out
    assert run_json(capsys, "traffic", "digits") == {
        "model": "digits",
        "generation": 2,
        "champion": 1,
        "percentages": {"1": 90.0, "2": 10.0},
    }
    assert main.run(["traffic", "digits"]) == 0
    assert "version 1     90 %  champion" in capsys.readouterr().out
    assert [model["name"] for model in run_json(capsys, "models", "--contains", "git")["models"]] == ["digits"]  # type: ignore[attr-defined]


@pytest.mark.usefixtures("up")
@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("traffic", "digits", "1"), 2),
        (("traffic", "digits", "1=50", "1=50"), 2),
        (("traffic", "digits", "1=90"), 2),
        (("traffic", "digits", "1=50", "2=50"), 3),
        (("optimizations", "--cancel"), 2),
        (("optimizations", "nope", "--cancel"), 3),
        (("promote", "digits", "1", "--if-generation", "9"), 3),
        (("promote", "digits", "7"), 3),
        (("promote", "digits", "0"), 2),
        (("rollback", "digits"), 2),
        (("policy", "digits", "--pin"), 3),
        (("policy", "digits", "--max-waiting", "-1"), 2),
        (("policy", "other"), 3),
        (("shadow", "digits"), 2),
        (("shadow", "digits", "1", "--off"), 2),
        (("shadow", "digits", "1"), 3),
        (("shadow", "digits", "2", "--percent", "0"), 2),
        (("versions", "other"), 3),
        (("retrain", "digits", "--trainer", "os:system"), 2),
    ],
)
def test_refused_calls(arguments: tuple[str, ...], code: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(list(arguments)) == code
    assert capsys.readouterr().out == ""


@pytest.mark.usefixtures("stack")
def test_workers_that_do_not_answer_are_listed_and_not_restarted(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BURNISH_DOOR_PORT", "1")
    assert main.run(["workers", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [(state["worker"], state["ready"], state["pid"]) for state in found] == [(0, False, None), (1, False, None)]
    assert main.run(["workers"]) == 0
    assert capsys.readouterr().out.count("not ready") == 2
    assert main.run(["workers", "restart", "1"]) == 2
    assert "worker 1 does not answer" in capsys.readouterr().err
    assert main.run(["workers", "restart", "7"]) == 2
    assert "there is no worker 7; there are 0 to 1" in capsys.readouterr().err


def test_registry_down_is_said(up: FakeStack, capsys: pytest.CaptureFixture[str]) -> None:
    up.store.down = True
    assert main.run(["versions", "digits"]) == 0
    shown = capsys.readouterr()
    assert "MLflow does not answer" in shown.err
    assert "?" in shown.out


def test_promote_and_rollback_work_on_the_ledger_when_the_control_api_is_down(
    down: FakeStack, capsys: pytest.CaptureFixture[str]
) -> None:
    catalog = down.platform.settings.catalog_folder / "digits.json"
    assert run_json(capsys, "promote", "digits", "1")["pending"] == [0, 1]
    assert main.run(["promote", "digits", "2", "--if-generation", "1"]) == 0
    assert read_entry(catalog).generation == 2
    assert main.run(["rollback", "digits", "--reason", "worse"]) == 0
    shown = capsys.readouterr()
    assert "working on the ledger itself" in shown.err
    assert (live(down).champion, read_entry(catalog).generation) == (1, 3)
    assert down.platform.ledger.history("digits")[-1].reason == "worse"
    assert main.run(["promote", "digits", "2", "--if-generation", "1"]) == 3
    assert "generation 3" in capsys.readouterr().err


def test_another_stacks_control_api_is_never_replaced_by_the_local_ledger(
    down: FakeStack, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def untouched(_: object) -> None:
        raise AssertionError("the local ledger was opened")

    monkeypatch.setattr(wiring, "ledger", untouched)
    monkeypatch.setenv("BURNISH_CONTROL_URL", "http://elsewhere.test:8080")
    assert main.run(["promote", "digits", "1"]) == 3
    assert "does not answer at http://elsewhere.test:8080" in capsys.readouterr().err
    assert down.platform.ledger.routes() == ()


def test_monitor_and_retrain(up: FakeStack, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_json(capsys, "monitor", "digits")["id"] == "run-0"
    assert main.run(["retrain", "digits"]) == 0
    assert "/runs/flow-run/run-1" in capsys.readouterr().out
    assert [run["deployment"] for run in up.prefect.runs] == ["monitor", "retrain"]


@pytest.mark.usefixtures("up")
def test_predict_from_npz_and_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.savez(tmp_path / "x.npz", x=np.array([[1.5, 2]], np.float32), label=np.array([3]))
    (tmp_path / "x.json").write_text('{"x": [[1.5, 2]]}')
    for name in ("x.npz", "x.json"):
        found = run_json(capsys, "predict", "digits", "--input", str(tmp_path / name))
        assert (found["outputs"], found["version"], found["request_id"]) == ({"y": [[3.0, 4.0]]}, 2, "r1")
    assert main.run(["predict", "digits", "--version", "2", "--input", str(tmp_path / "x.npz")]) == 0
    assert "y float32[1, 2]" in capsys.readouterr().out
    assert main.run(["predict", "digits", "--version", "3", "--input", str(tmp_path / "x.npz")]) == 3


@pytest.mark.parametrize(("name", "body"), [("x.npz", b"PK"), ("x.npz", b""), ("x.json", b"{"), ("x.json", b"[1]")])
def test_unreadable_inputs_are_input_errors(tmp_path: Path, name: str, body: bytes) -> None:
    (tmp_path / name).write_bytes(body)
    with pytest.raises(InputError, match=name):
        read_inputs(tmp_path / name)


def test_object_arrays_are_never_unpickled(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", x=np.array([{}], dtype=object))
    with pytest.raises(InputError, match=r"x\.npz"):
        read_inputs(tmp_path / "x.npz")
    with pytest.raises(InputError, match=r"gone\.npz"):
        read_inputs(tmp_path / "gone.npz")
