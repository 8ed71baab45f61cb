"""The short form of ``make bench-control``: a real control API, engine and databases; every answer is checked."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.control import postgres

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.skipif(postgres.BIN is None, reason="needs the Debian package postgresql")
def test_all_of_it_works_in_short(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks.control", "--short", "--out", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=500, check=False)
    assert (tmp_path / "control.json").is_file(), done.stdout + done.stderr[-2000:]
    written = json.loads((tmp_path / "control.json").read_text(encoding="utf-8"))
    for database in ("sqlite", "postgres"):
        assert {name: found["calls"] for name, found in written["figures"][database].items()} == {
            "list": 10,
            "search": 10,
            "promote": 10,
        }
    assert done.returncode == (0 if all(goal["met"] for goal in written["goals"]) else 1)
