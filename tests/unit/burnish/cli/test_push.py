import json
from pathlib import Path
from typing import Any

import pytest

from burnish.cli import main
from burnish.client import Client, OnFileSent
from burnish.replies import Candidate, Interval, Optimization
from tests.unit.burnish.test_replies import PASSED, REFUSAL, optimization

CANDIDATE = Candidate(
    label="export_onnx @ onnxruntime",
    status="measured",
    baseline=True,
    chosen=True,
    reason="[the fastest]",
    latency_p50_ms=Interval(0.1, 0.09, 0.12),
    score=None,
    size_bytes=2048,
    rules=(),
)
COMMAND = ["push", "net.pt2", "digits", "--eval", "set.npz"]


class Stack:
    """What the client is asked for, and how the optimization ends."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **ending: object) -> None:
        self.pushed: tuple[Any, ...] = ()
        self.ended = optimization(**ending)
        monkeypatch.setattr(Client, "push_files", self._push_files)
        monkeypatch.setattr(Client, "wait", self._wait)
        monkeypatch.setattr(Client, "candidates", lambda *_: (CANDIDATE,))

    def _push_files(self, *arguments: object, on_sent: OnFileSent) -> Optimization:
        self.pushed = arguments
        for sent in range(0, 101, 10):
            on_sent("net.pt2", sent * 2**20, 100 * 2**20)
            on_sent("set.npz", sent, 100)
        return optimization()

    def _wait(self, identifier: str, on_update: Any) -> Optimization:  # noqa: ANN401
        assert identifier == self.ended.id
        on_update(optimization(state="running", stage="candidates", candidates_done=3, candidates_total=9))
        on_update(self.ended)
        return self.ended


@pytest.mark.parametrize(
    ("state", "code"), [("released", 0), ("registered", 0), ("refused", 1), ("invalid", 2), ("failed", 3)]
)
def test_exit_code_says_what_came_of_it(monkeypatch: pytest.MonkeyPatch, state: str, code: int) -> None:
    Stack(monkeypatch, state=state)
    assert main.run(COMMAND) == code
    assert main.run([*COMMAND, "--json"]) == code


def test_a_refusal_names_the_rule_and_its_figures(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Stack(monkeypatch, state="refused", rules=(PASSED, REFUSAL), report_url="http://control.test/report")
    main.run(COMMAND)
    shown = capsys.readouterr()
    assert "gate cannot tell: not_worse_than_champion: 299 samples needed (n 40)" in shown.out
    assert "gate pass: fidelity" in shown.out
    assert "http://control.test/report" in shown.out
    assert "[the fastest]" in shown.out
    assert "running candidates 3/9" in shown.err
    assert [line for line in shown.err.splitlines() if line.startswith("sending")] == [
        f"sending net.pt2: {percent} % of 100 MiB" for percent in (25, 50, 75, 100)
    ]


def test_json_is_one_value_and_nothing_else(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Stack(monkeypatch, state="released", version=4, report_url="http://control.test/report")
    main.run([*COMMAND, "--json"])
    shown = capsys.readouterr()
    found = json.loads(shown.out)
    assert (found["state"], found["version"], found["candidates"][0]["chosen"]) == ("released", 4, True)
    assert shown.err == ""


def test_no_wait_returns_with_the_id(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    Stack(monkeypatch, state="failed")
    assert main.run([*COMMAND, "--no-wait"]) == 0
    assert f"burnish optimizations {'1' * 32}" in capsys.readouterr().out


@pytest.mark.parametrize(("suffix", "text"), [(".yaml", "margin: 0.02\nseed: 7"), (".toml", "margin = 0.02\nseed = 7")])
def test_configuration_comes_from_the_file_and_options_win(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, suffix: str, text: str
) -> None:
    stack = Stack(monkeypatch, state="released")
    config = (tmp_path / "config").with_suffix(suffix)
    config.write_text(text + "\nbudget_minutes: 9" * (suffix == ".yaml"))
    main.run([*COMMAND, "--config", str(config), "--budget", "2.5", "--policy", "min_size", "--calibration", "c.npz"])
    path, name, evaluation, calibration, fields = stack.pushed
    assert (path, name, evaluation, calibration) == (Path("net.pt2"), "digits", Path("set.npz"), Path("c.npz"))
    assert fields == {"margin": 0.02, "seed": 7, "budget_minutes": 2.5, "policy": "min_size"}


@pytest.mark.parametrize("text", ["- a list", "a: [", "1: one", "\x00"])
def test_unusable_configuration_is_2(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str
) -> None:
    stack = Stack(monkeypatch, state="released")
    config = tmp_path / "config.yaml"
    config.write_text(text)
    assert main.run([*COMMAND, "--config", str(config)]) == 2
    assert main.run([*COMMAND, "--config", str(tmp_path / "gone.toml")]) == 2
    assert capsys.readouterr().err.count("error: the configuration") == 2
    assert stack.pushed == ()


def test_optimizations_lists_and_shows(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    found = optimization(state="released", version=2, report_url="http://control.test/report")
    monkeypatch.setattr(Client, "optimizations", lambda _, model: (found,) if model in (None, "digits") else ())
    monkeypatch.setattr(Client, "optimization", lambda _, identifier: found if identifier == found.id else None)
    monkeypatch.setattr(Client, "candidates", lambda *_: (CANDIDATE,))
    assert main.run(["optimizations", "--model", "other", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == []
    assert main.run(["optimizations", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["id"] == found.id
    assert main.run(["optimizations", found.id]) == 0
    shown = capsys.readouterr().out
    assert "digits: released, version 2" in shown
    assert "export_onnx @ onnxruntime (baseline)" in " ".join(shown.split())
