"""The short form of what ``make bench-evidence`` shows: every point is measured, and holds."""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_every_statistical_point_holds_in_short(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks.evidence", "--short", "--out", str(tmp_path / "evidence.json")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=400, check=False)
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
    written = json.loads((tmp_path / "evidence.json").read_text(encoding="utf-8"))
    assert len(written["goals"]) == 12
    assert all(goal["met"] for goal in written["goals"])
    assert written["environment"]["cpu_model"]
