import json
import socket
from pathlib import Path

import pytest

from burnish.cli.main import run
from burnish.stack.plan import PLAN_FILE, Part, StackPlan, write_record


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BURNISH_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def test_status_of_a_stack_that_never_ran_is_3_and_says_so(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["status", "--json"]) == 3
    told = json.loads(capsys.readouterr().out)
    assert told["home"] == str(home)
    assert told["parts"] == []
    assert told["notes"] == ["the stack is not running"]
    assert run(["status"]) == 3
    assert "note: the stack is not running" in capsys.readouterr().out


def test_status_of_a_stopped_stack_lists_its_parts(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plan = StackPlan(home=home, parts=(Part(name="one", command=("true",), probes=(), url="http://one"),))
    plan.run_folder.mkdir(parents=True)
    write_record(plan.run_folder / PLAN_FILE, plan)
    assert run(["status", "--json"]) == 3
    (part,) = json.loads(capsys.readouterr().out)["parts"]
    assert part == {"name": "one", "running": False, "healthy": False, "pid": None, "restarts": 0, "url": "http://one"}
    assert run(["status"]) == 3
    assert "stopped" in capsys.readouterr().out


def test_down_without_a_stack_is_done(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["down", "--home", str(home / "other")]) == 0
    assert "no stack was running" in capsys.readouterr().out


def test_up_on_a_taken_port_is_2_and_writes_nothing(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        number = str(taken.getsockname()[1])
        monkeypatch.setenv("BURNISH_MLFLOW_PORT", number)
        assert run(["up"]) == 2
    told = capsys.readouterr().err
    assert f"port {number} on 127.0.0.1 cannot be used" in told
    assert "BURNISH_MLFLOW_PORT" in told
    assert not home.exists()


def test_a_setting_that_cannot_be_used_is_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("BURNISH_WORKERS", "0")
    for command in ("up", "status", "down"):
        assert run([command]) == 2
        assert "BURNISH_WORKERS" in capsys.readouterr().err


def test_down_says_in_json_that_nothing_ran(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["down", "--home", str(tmp_path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"home": str(tmp_path), "ran": False}
