"""The short form of ``make bench-density``: a real engine, everything asked is answered, the budget is kept."""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_all_of_it_works_in_short(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks.density", "--short", "--out", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=500, check=False)
    assert (tmp_path / "density.json").is_file(), done.stdout + done.stderr[-2000:]
    written = json.loads((tmp_path / "density.json").read_text(encoding="utf-8"))
    goals = {goal["name"]: goal for goal in written["goals"]}
    counted = {name: goal for name, goal in goals.items() if goal["name"].startswith(("failed", "measured", "loads"))}
    assert len(counted) == 6
    assert all(goal["met"] for goal in counted.values()), counted
    assert done.returncode == (0 if all(goal["met"] for goal in goals.values()) else 1)
    assert written["figures"]["small"]["resident"]["evictions"] > 0
    assert written["environment"]["cpu_model"]
