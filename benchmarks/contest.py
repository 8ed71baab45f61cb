"""The contest of one net: the eager module, every hand-made line and the search's winners take turns in one process.

Several processes measure one after the other: where a session's memory lies changes its speed from load to load.
"""

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from benchmarks.figures import ContestRun
from benchmarks.hand_made.catalog import LINES
from benchmarks.nets.catalog import NETS
from benchmarks.prepare import prepare
from registry.records.base import Record
from registry.records.model import Signature
from serving.runtime import Array, Arrays, Session, build_runtime
from tasks.bench.measure import Plan, interleaved
from tasks.bench.process import BenchItem

LOG_FILE = "contest.txt"
_ROOT = Path(__file__).parents[1]
_BATCH_SIZE = 8
_LOAD_TIMEOUT_S = 900.0


class ContestJob(Record):
    """What one process is told."""

    net: str
    prepared: Path
    lines: dict[str, Path]
    """Hand-made lines by name, with the folders that they were written to."""
    winners: tuple[BenchItem, ...]
    signature: Signature
    plan: Plan


class HandMade(Session):
    """A hand-made line in the form that the measurement takes."""

    def __init__(self, call: Callable[[Mapping[str, Array]], Array], signature: Signature) -> None:
        """Wrap the call."""
        super().__init__(signature, 0)
        self._call = call
        self._output = signature.outputs[0].name

    def run(self, inputs: Mapping[str, Array]) -> Arrays:
        """Compute the logits."""
        return {self._output: self._call(inputs)}

    def close(self) -> None:
        """Free the line."""
        del self._call


def hold(job: ContestJob, workspace: Path, *, timeout_s: float) -> ContestRun:
    """Measure in a process of its own.

    Raises:
        RuntimeError: the process failed.
    """
    workspace.mkdir(parents=True, exist_ok=True)
    job_file, run_file = workspace / "contest_job.json", workspace / "contest_run.json"
    job_file.write_text(job.model_dump_json(indent=1), encoding="utf-8")
    run_file.unlink(missing_ok=True)
    log = workspace / LOG_FILE
    with log.open("wb") as stream:
        command = [sys.executable, "-m", "benchmarks.contest", str(job_file.absolute()), str(run_file.absolute())]
        code = subprocess.run(
            command, cwd=_ROOT, stdout=stream, stderr=stream, timeout=timeout_s + _LOAD_TIMEOUT_S, check=False
        ).returncode
    if code or not run_file.is_file():
        raise RuntimeError(f"the contest of {job.net} ended with exit code {code}; see {log}")
    return ContestRun.model_validate_json(run_file.read_text(encoding="utf-8"))


def measure(job: ContestJob) -> ContestRun:
    """Load everyone, let them answer the evaluation set, and let them take turns on the last processor."""
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[-1:])
    prepared = prepare(NETS[job.net], job.prepared)
    sessions: dict[str, Session] = {
        name: HandMade(LINES[name].open(prepared, folder), job.signature) for name, folder in job.lines.items()
    }
    for item in job.winners:
        sessions[item.id] = build_runtime(item.runtime).load(item.folder, item.artifact, item.signature)
    evaluation = {prepared.net.input_name: prepared.samples.evaluation}
    right = {}
    if prepared.samples.labels is not None:
        for name, session in sessions.items():
            found = _answers(session, evaluation, job.signature.outputs[0].name) == prepared.samples.labels
            right[name] = tuple(found.tolist())
    series = interleaved(sessions, evaluation, job.plan, lambda name: None)
    medians = {
        one.batch_size: {name: tuple(np.median(rows, axis=1).tolist()) for name, rows in one.latency_ms.items()}
        for one in series
    }
    return ContestRun(lines=tuple(job.lines), medians_ms=medians, right=right)


def _answers(session: Session, inputs: Arrays, output: str) -> Array:
    """The class of every sample, computed in batches."""
    total = len(next(iter(inputs.values())))
    batches = [
        session.run({name: array[start : start + _BATCH_SIZE] for name, array in inputs.items()})[output].argmax(axis=1)
        for start in range(0, total, _BATCH_SIZE)
    ]
    return np.concatenate(batches)


if __name__ == "__main__":
    _job = ContestJob.model_validate_json(Path(sys.argv[1]).read_text(encoding="utf-8"))
    Path(sys.argv[2]).write_text(measure(_job).model_dump_json(), encoding="utf-8")
    sys.stdout.flush()
    os._exit(0)  # a library's thread cannot hold the process up once the figures stand
