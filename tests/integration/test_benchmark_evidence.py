"""The short form of what ``make bench-evidence`` shows: every point is measured, and what no clock decides holds."""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
TIMED = ("runs that call an artifact different from itself", "Jaccard index of the fronts of repeated measurements")
"""Decided by latencies of this moment: a few short runs on a busy machine may miss these goals by chance."""


def test_every_statistical_point_holds_in_short(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks.evidence", "--short", "--out", str(tmp_path / "evidence.json")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=400, check=False)
    assert (tmp_path / "evidence.json").is_file(), done.stdout + done.stderr[-2000:]
    written = json.loads((tmp_path / "evidence.json").read_text(encoding="utf-8"))
    timed = [goal for goal in written["goals"] if goal["name"].startswith(TIMED)]
    certain = [goal for goal in written["goals"] if goal not in timed]
    assert (len(certain), len(timed)) == (10, 2)
    assert [goal for goal in certain if not goal["met"]] == []
    assert done.returncode == (0 if all(goal["met"] for goal in timed) else 1)
    runs = written["figures"]["a/a"]["runs"]
    assert [len(run["p_values"]) for run in runs] == [2, 2, 2]
    assert not all(run["different"] for run in runs), "three of three are no chance, however busy the machine is"
    assert len(written["figures"]["fronts"]["of all"]) == 2
    assert all(written["figures"]["fronts"]["of all"])
    assert written["environment"]["cpu_model"]
