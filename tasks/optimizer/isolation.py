"""Run work on models in a child process, and turn every way it can end into a value or an error."""

import faulthandler
import json
import os
import sys
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from registry.errors import BurnishError, CandidateError
from registry.plugins import PASSES, RUNTIMES
from registry.records.model import PluginConfig
from serving.runtime import Arrays
from tasks.optimizer.base import Artifact
from tasks.optimizer.dataset import Dataset, save_dataset
from tasks.optimizer.evaluate import load_arrays
from tasks.optimizer.job import PREDICTIONS_FILE, CandidateJob, PlacedArtifact
from tasks.optimizer.process_request import ProcessRequest
from tasks.optimizer.process_server import process_server
from tasks.optimizer.settings import child_environment, decline_telemetry

JOB_FILE = "job.json"
RESULT_FILE = "result.json"
LOG_FILE = "log.txt"
CANDIDATE_CHILD = "tasks.optimizer.child"


@dataclass(frozen=True)
class Limits:
    """What a child process may use before it is killed."""

    timeout_s: float
    memory_mib: int = 8192
    """Resident memory of the child and everything that it started."""
    threads: int = 1
    confined: bool = True
    """Only its workspace is writable and no network is reachable. A user's own training may need more."""
    quiet: bool = False
    """It takes times: the process server does not work meanwhile."""


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
    """Run a module as a program on a job, in a confined process without credentials, and return its answer.

    The process is a fork of the process server; it and all that it started are gone when this returns or raises.

    The workspace receives ``job.json``, ``result.json`` and ``log.txt`` (what the child and its libraries printed).

    Args:
        module: a module that calls ``answer`` when run.
        job: JSON values.
        workspace: a folder of this child's own; its home and temporary folder are below it.
        limits: time and memory.
    """
    request = process_request(module, job, workspace=workspace, limits=limits)
    home = Path(request.environment["HOME"])
    home.mkdir(parents=True, exist_ok=True)
    decline_telemetry(home)
    (workspace / RESULT_FILE).unlink(missing_ok=True)
    (workspace / JOB_FILE).write_text(json.dumps(job, indent=1), encoding="utf-8")
    (workspace / LOG_FILE).write_bytes(b"")
    return _read_answer(workspace / RESULT_FILE, process_server().run(request))


def process_request(module: str, job: Mapping[str, Any], *, workspace: Path, limits: Limits) -> ProcessRequest:
    """Return what ``ask_child`` asks of the process server."""
    workspace = workspace.absolute()
    return ProcessRequest(
        module=module,
        arguments=(str(workspace / JOB_FILE), str(workspace / RESULT_FILE)),
        workspace=str(workspace),
        log=str(workspace / LOG_FILE),
        environment=child_environment(workspace / "home", limits.threads),
        imports=_built_in_modules(module, job),
        timeout_s=limits.timeout_s,
        memory_mib=limits.memory_mib,
        threads=limits.threads,
        confined=limits.confined,
        quiet=limits.quiet,
    )


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


def answer(work: Callable[[dict[str, Any], Path], dict[str, Any]]) -> None:
    """Do a child's work: read the job, call ``work(job, workspace)``, write the value or the error as the result.

    The command line names the job's file and the result's; the workspace is the result's folder.
    """
    job_file, result_file = Path(sys.argv[1]), Path(sys.argv[2])
    with suppress(OSError, ValueError):
        faulthandler.enable()
    try:
        result = json.dumps({"value": work(json.loads(job_file.read_text(encoding="utf-8")), result_file.parent)})
    except SystemExit:
        raise  # its exit code tells it
    except BaseException as error:  # noqa: BLE001  a pass or library may raise anything: the candidate is lost, not the search
        with suppress(OSError, ValueError):  # the log may be closed
            traceback.print_exc()
        result = json.dumps({"error": _in_words(error, result_file.parent)})
    partial = result_file.with_suffix(".partial")
    partial.write_text(result, encoding="utf-8")
    partial.replace(result_file)
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    os._exit(0)  # a library's thread cannot hold the child up once its answer stands


def _built_in_modules(module: str, job: Mapping[str, Any]) -> tuple[str, ...]:
    """The modules of Burnish's own that a child will import: its own, and the plug-ins named in its job.

    Plug-ins of others are not among them: their code runs in children only.
    """
    found = [module] if module.partition(".")[0] == __name__.partition(".")[0] else []
    for name in sorted(_plugin_names(job)):
        for kind in (PASSES, RUNTIMES):
            package = import_module(kind.package)
            if any(Path(folder, f"{name}.py").is_file() for folder in package.__path__):
                found.append(f"{kind.package}.{name}")
    return tuple(found)


def _plugin_names(job: object) -> set[str]:
    """Every name in JSON values that stands beside knobs, or in a list of passes or runtimes."""
    found: set[str] = set()
    if isinstance(job, Mapping):
        listed = [*job.get("passes", ()), *job.get("runtimes", ()), job.get("name") if "knobs" in job else None]
        found.update(name for name in listed if isinstance(name, str) and name.isidentifier())
        found.update(*map(_plugin_names, job.values()))
    elif isinstance(job, list | tuple):
        found.update(*map(_plugin_names, job))
    return found


def _in_words(error: BaseException, workspace: Path) -> str:
    if isinstance(error, BurnishError):
        return str(error)
    text = str(error).strip()
    line = f"{type(error).__name__}: {text.splitlines()[0][:300]}" if text else type(error).__name__
    if isinstance(error, MemoryError):
        return f"it asked for more memory than it may use ({line})"
    if isinstance(error, PermissionError) and error.filename and not Path(error.filename).is_relative_to(workspace):
        return f"{line}; a child may write below its workspace only"
    return line


def _read_answer(path: Path, ending: str) -> Answer:
    try:
        result = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return Answer(failure=f"the child process {ending}")
    if "error" in result:
        return Answer(failure=str(result["error"]))
    return Answer(value=result["value"])
