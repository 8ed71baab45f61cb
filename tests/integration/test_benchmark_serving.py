"""The short form of ``make bench-serving``: the engine and the bare server as they run, every request of theirs."""

import json
import subprocess
import sys
from pathlib import Path

from benchmarks.serving import lineup

ROOT = Path(__file__).parents[2]


def test_the_engine_and_the_bare_server_take_turns_under_load(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks.serving", "--short", "--out", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
    written = json.loads((tmp_path / "serving.json").read_text(encoding="utf-8"))
    figures = written["figures"]
    assert figures["missing"] == {}
    assert {one["target"] for one in figures["standings"]} == {
        lineup.BURNISH, lineup.BURNISH_WIDE, lineup.BURNISH_BINARY, lineup.BURNISH_GRPC,
        lineup.BARE, lineup.BARE_WIDE, lineup.BARE_BINARY,
    }  # fmt: skip
    for standing in figures["standings"]:
        assert standing["requests"] > 0
        assert standing["errors"] == 0
        assert 0 < standing["p50_ms"]["estimate"] <= standing["p99_ms"]["estimate"]
    assert figures["versions"]["bare"]["uvicorn"]
    captured = list((tmp_path / "serving" / "work" / "burnish" / "capture").rglob("*.parquet"))
    assert captured, "capture was on"
