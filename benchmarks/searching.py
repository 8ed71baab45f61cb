"""Run the search as a user does, by the command line, and take its times from outside."""

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.figures import SearchTimes
from benchmarks.nets.base import Net
from benchmarks.prepare import CALIBRATION_FILE, EVALUATION_FILE, PROGRAM_FILE
from benchmarks.settings import without_history
from registry.records.optimization import OptimizationResult
from tasks.optimizer.output import BEST_FILE, BEST_FOLDER, RESULT_FILE

LOG_FILE = "search.txt"
_BURNISH = Path(sys.executable).with_name("burnish")
_POLL_S = 0.1
_PATIENCE_S = 600.0
"""A search that is this much over its budget is ended; the goal is missed in any case."""


def run_search(net: Net, prepared: Path, out: Path, budget_minutes: float) -> tuple[OptimizationResult, SearchTimes]:
    """Run ``burnish optimize`` with default settings from nothing: no cache, and no history of earlier searches.

    Args:
        net: its configuration says how it is judged.
        prepared: the folder with the net's program and sets.
        out: the folder that the search writes; what it held is removed.
        budget_minutes: for the whole search.

    Raises:
        RuntimeError: the search failed or found nothing that passed.
    """
    shutil.rmtree(out, ignore_errors=True)
    out.parent.mkdir(parents=True, exist_ok=True)
    config = out.with_name("config.yaml")  # JSON is YAML
    config.write_text(json.dumps({"batch_sizes": [1, 8], "threads": 1, **net.config}), encoding="utf-8")
    command: list[str | Path] = [
        *(_BURNISH, "optimize", prepared / PROGRAM_FILE, "--eval", prepared / EVALUATION_FILE),
        *("--calibration", prepared / CALIBRATION_FILE, "--config", config),
        *("--budget", str(budget_minutes), "--out", out),
    ]
    log = out.with_name(LOG_FILE)
    started = time.monotonic()
    with log.open("wb") as stream:
        environment = without_history(out.parent)
        process = subprocess.Popen(command, stdout=stream, stderr=subprocess.STDOUT, env=environment)
        try:
            first = _watch(process, out / BEST_FOLDER / BEST_FILE, started, 60 * budget_minutes + _PATIENCE_S)
        finally:
            process.kill()
            process.wait()
    whole = time.monotonic() - started
    if process.returncode or not (out / RESULT_FILE).is_file():
        raise RuntimeError(f"the search of {net.name} ended with exit code {process.returncode}; see {log}")
    result = OptimizationResult.model_validate_json((out / RESULT_FILE).read_text(encoding="utf-8"))
    return result, SearchTimes(first_best_s=first, whole_s=whole, budget_minutes=budget_minutes)


def _watch(process: subprocess.Popen[bytes], best: Path, started: float, timeout_s: float) -> float:
    """Wait for the end and return when the first best stood, which is the end at the latest."""
    first: float | None = None
    while process.poll() is None and time.monotonic() - started < timeout_s:
        if first is None and best.is_file():
            first = time.monotonic() - started
        time.sleep(_POLL_S)
    return time.monotonic() - started if first is None else first
