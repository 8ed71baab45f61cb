"""What a fork does to become the process of one job: shed what was the server's, confine itself, run a module."""

import os
import runpy
import signal
import sys
import tempfile
import traceback
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from importlib import invalidate_caches
from pathlib import Path
from types import ModuleType
from typing import NoReturn

from tasks.optimizer.confinement import PR_SET_PDEATHSIG, confine, control_process
from tasks.optimizer.process_request import ProcessRequest
from tasks.optimizer.settings import replace_environment


@dataclass(frozen=True)
class Inherited:
    """What a fork has from the server, and a fresh process would not have."""

    environment: frozenset[str]
    """Names of the variables that the server was started with; what an import has set stays."""
    home: str
    """The server's home and temporary folder."""
    paths: tuple[tuple[ModuleType, str], ...] = ()
    """Constants of modules below that home: libraries make paths when they are imported."""


def run_job(request: ProcessRequest, warden: int, inherited: Inherited) -> NoReturn:
    """Make of this process, a fork of the server, what a fresh one would be, and run the job in it to its end.

    Args:
        request: the job.
        warden: the parent; with it ends this process.
        inherited: what is taken off.
    """
    control_process(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != warden:
        os._exit(1)
    os.setsid()
    _redirect(Path(request.log))
    os.chdir(request.workspace)
    _set_environment(request.environment, inherited)
    _set_threads(request.threads)
    _run_and_exit(request)


def _run_and_exit(request: ProcessRequest) -> NoReturn:
    code = 1
    try:
        if request.confined:
            for missing in confine(Path(request.workspace), request.memory_mib):
                print(f"burnish: {missing}", file=sys.stderr)  # noqa: T201  the log is where its reader looks
        code = run_module(request.module, request.arguments)
    finally:
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError):
                stream.flush()
        os._exit(code)  # no clean-up of what belongs to the server


def run_module(module: str, arguments: tuple[str, ...]) -> int:
    """Run a module as ``__main__`` and return its exit code, as the interpreter would."""
    sys.argv[:] = [module, *arguments]
    sys.modules.pop(module, None)  # the server may have imported it; as a program it starts from its first line
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as stopped:
        if stopped.code is None or isinstance(stopped.code, int):
            return (stopped.code or 0) & 0xFF
        print(stopped.code, file=sys.stderr)  # noqa: T201
        return 1
    except BaseException:  # noqa: BLE001  the interpreter's own end of a program
        traceback.print_exc()
        return 1
    return 0


def _redirect(log: Path) -> None:
    nothing = os.open(os.devnull, os.O_RDONLY)
    stream = os.open(log, os.O_WRONLY | os.O_APPEND)
    for source, target in ((nothing, 0), (stream, 1), (stream, 2)):
        os.dup2(source, target)
    os.close(nothing)
    os.close(stream)


def _set_environment(environment: dict[str, str], inherited: Inherited) -> None:
    home = environment["HOME"]
    replace_environment(inherited.environment, environment, (inherited.home, home))
    for module, name in inherited.paths:
        setattr(module, name, getattr(module, name).replace(inherited.home, home))
    tempfile.tempdir = None
    search = [path for path in environment.get("PYTHONPATH", "").split(os.pathsep) if path and path not in sys.path]
    sys.path[:0] = search
    invalidate_caches()


def constants_below(home: str, modules: Iterable[ModuleType]) -> tuple[tuple[ModuleType, str], ...]:
    """Return the constants of modules that are paths below a folder."""
    return tuple(
        (module, name)
        for module in modules
        for name, value in list(vars(module).items())
        if type(value) is str and value.startswith(home)  # no isinstance: some values import more when looked at
    )


def _set_threads(threads: int) -> None:
    torch = sys.modules.get("torch")
    if torch:  # it has read OMP_NUM_THREADS already, in the server
        torch.set_num_threads(threads)
