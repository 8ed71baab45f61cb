"""Run work on models in a child process, and turn every way it can end into a value or an error."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from registry.errors import BurnishError, CandidateError
from registry.records.model import PluginConfig
from serving.runtime import Arrays
from tasks.optimizer.base import Artifact
from tasks.optimizer.dataset import Dataset, save_dataset
from tasks.optimizer.evaluate import load_arrays
from tasks.optimizer.job import PREDICTIONS_FILE, CandidateJob, PlacedArtifact
from tasks.optimizer.settings import child_environment

JOB_FILE = "job.json"
RESULT_FILE = "result.json"
LOG_FILE = "log.txt"
CANDIDATE_CHILD = "tasks.optimizer.child"
_BOUND = "--bound"
_POLL_S = 0.05
_MEMORY_POLL_S = 0.2


@dataclass(frozen=True)
class Limits:
    """What a child process may use before it is killed."""

    timeout_s: float
    memory_mib: int = 8192
    """Resident memory of the child and everything that it started."""
    threads: int = 1


@dataclass(frozen=True)
class Answer:
    """What came of a child: its value, or why there is none."""

    value: dict[str, Any] | None = None
    failure: str = ""


def run_child(module: str, job: Mapping[str, Any], *, workspace: Path, limits: Limits) -> dict[str, Any]:
    """Do as ``ask_child`` does and return the value.

    Raises:
        CandidateError: the child raised, crashed, hung, ate too much memory or ended without an answer; the
            message says which, and where the log is.
    """
    answered = ask_child(module, job, workspace=workspace, limits=limits)
    if answered.value is None:
        raise CandidateError(f"{answered.failure}; log: {workspace / LOG_FILE}")
    return answered.value


def ask_child(module: str, job: Mapping[str, Any], *, workspace: Path, limits: Limits) -> Answer:
    """Run ``python -m module`` on a job, in a process group without credentials, and return its answer.

    The workspace receives ``job.json``, ``result.json`` and ``log.txt`` (what the child and its libraries printed).

    Args:
        module: a module that calls ``answer`` when run.
        job: JSON values.
        workspace: a folder of this child's own; its home and temporary folder are below it.
        limits: time and memory.
    """
    home = workspace / "home"
    home.mkdir(parents=True, exist_ok=True)
    (workspace / RESULT_FILE).unlink(missing_ok=True)
    (workspace / JOB_FILE).write_text(json.dumps(job, indent=1), encoding="utf-8")
    with (workspace / LOG_FILE).open("wb") as stream:
        process = subprocess.Popen(
            [*child_command(module, workspace), _BOUND],
            stdin=subprocess.PIPE,  # its end of file tells the child that this process is gone
            stdout=stream,
            stderr=subprocess.STDOUT,
            cwd=workspace,
            env=child_environment(home, limits.threads),
            start_new_session=True,
        )
        try:
            stopped = _watch(psutil.Process(process.pid), limits)
        finally:
            _kill_group(process)
    return _read_answer(workspace / RESULT_FILE, stopped or _ending(process.returncode))


def predict(artifact: Artifact, runtime: PluginConfig, inputs: Arrays, workspace: Path, *, timeout_s: float) -> Arrays:
    """Return an artifact's outputs for every sample, run in a child process.

    Raises:
        CandidateError: the runtime cannot load or run it, or the child failed; the message says which.
    """
    workspace.mkdir(parents=True, exist_ok=True)
    save_dataset(Dataset(inputs), workspace / "inputs.npz")
    placed = PlacedArtifact.of(artifact)
    job = CandidateJob(
        source=placed,
        start=placed,
        steps=(),
        runtime=runtime,
        evaluation=str((workspace / "inputs.npz").absolute()),
        check_invariance=False,
        timeout_s=timeout_s,
    )
    limits = Limits(timeout_s=timeout_s)
    run_child(CANDIDATE_CHILD, job.model_dump(mode="json"), workspace=workspace, limits=limits)
    return load_arrays(workspace / PREDICTIONS_FILE)


def child_command(module: str, workspace: Path) -> list[str]:
    """Return the command that runs a job lying in a workspace; ``-P`` keeps the working folder off the import path."""
    folder = workspace.absolute()
    return [sys.executable, "-P", "-m", module, str(folder / JOB_FILE), str(folder / RESULT_FILE)]


def answer(work: Callable[[dict[str, Any], Path], dict[str, Any]]) -> None:
    """Do a child's work: read the job, call ``work(job, workspace)``, write the value or the error as the result.

    The command line is that of ``child_command``; the workspace is the result file's folder.
    """
    job_file, result_file = Path(sys.argv[1]), Path(sys.argv[2])
    if _BOUND in sys.argv[3:]:
        threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        result = json.dumps({"value": work(json.loads(job_file.read_text(encoding="utf-8")), result_file.parent)})
    except Exception as error:  # noqa: BLE001  a pass or library may raise anything: the candidate is lost, not the search
        traceback.print_exc()
        result = json.dumps({"error": str(error) if isinstance(error, BurnishError) else _first_line(error)})
    partial = result_file.with_suffix(".partial")
    partial.write_text(result, encoding="utf-8")
    partial.replace(result_file)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)  # a library's thread cannot hold the child up once its answer stands


def _first_line(error: Exception) -> str:
    text = str(error).strip()
    return f"{type(error).__name__}: {text.splitlines()[0][:300]}" if text else type(error).__name__


def _end_with_parent() -> None:
    while os.read(sys.stdin.fileno(), 1):  # not through the buffer: its lock would be held when the interpreter ends
        pass
    os.killpg(0, signal.SIGKILL)


def _watch(child: psutil.Process, limits: Limits) -> str | None:
    """Wait for the child to end; return why it has to be killed, or None if it ended by itself."""
    started = checked = time.monotonic()
    while child.status() != psutil.STATUS_ZOMBIE:  # not reaped before its group is gone, so the group id stays ours
        now = time.monotonic()
        if now - started > limits.timeout_s:
            return f"took longer than {limits.timeout_s:g} s and was killed"
        if now - checked > _MEMORY_POLL_S:
            checked = now
            used_mib = _resident_mib(child)
            if used_mib > limits.memory_mib:
                return (
                    f"used {used_mib:.0f} MiB of memory, more than the {limits.memory_mib} MiB allowed, and was killed"
                )
        time.sleep(_POLL_S)
    return None


def _resident_mib(child: psutil.Process) -> float:
    total = 0
    for process in _family(child):
        with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            total += process.memory_info().rss
    return total / 2**20


def _family(child: psutil.Process) -> list[psutil.Process]:
    with suppress(psutil.NoSuchProcess):
        return [child, *child.children(recursive=True)]
    return []


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    for member in _family(psutil.Process(process.pid)):
        with suppress(psutil.NoSuchProcess):
            member.kill()
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    if process.stdin:
        process.stdin.close()


def _ending(code: int) -> str:
    if code >= 0:
        return f"ended with exit code {code} and no result"
    name = signal.Signals(-code).name
    hint = " (the system may have run out of memory)" if name == "SIGKILL" else ""
    return f"was ended by {name}{hint}"


def _read_answer(path: Path, ending: str) -> Answer:
    try:
        result = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return Answer(failure=f"the child process {ending}")
    if "error" in result:
        return Answer(failure=str(result["error"]))
    return Answer(value=result["value"])
