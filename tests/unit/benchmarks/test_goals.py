"""Goals: a figure beside what it should be, and what is not a figure at all."""

import json
from pathlib import Path

import pytest

from benchmarks.goals import Goal, report


def test_what_was_not_measured_is_not_met(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    met = Goal(name="p99 warm", measured=3, relation="at most", goal=10, unit="ms")
    empty = Goal(name="p99 cold", measured=None, relation="at most", goal=50, unit="ms")
    assert (met.met, empty.met) == (True, False)
    assert report([met, empty], tmp_path / "out.json", {}) == 1
    assert "MISSED p99 cold: not measured, at most 50" in capsys.readouterr().out
    written = json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))["goals"]
    assert [(goal["measured"], goal["met"]) for goal in written] == [(3, True), (None, False)]
