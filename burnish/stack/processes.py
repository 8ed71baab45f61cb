"""Processes of a stack: telling them from all others, and ending them."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import psutil

from burnish.stack.plan import ProcessId

SUPERVISOR_MODULE = "burnish.stack.supervisor"
PART_VARIABLE = "BURNISH_PART"
HOME_VARIABLE = "BURNISH_HOME"

# psutil derives a start from the clock and the boot time; both may be corrected a little while a process runs.
_CLOCK_TOLERANCE_S = 2.0
_KILL_WAIT_S = 10.0


def identify(process: psutil.Process) -> ProcessId:
    """Return what tells a process from a later one with the same number."""
    return ProcessId(pid=process.pid, started=process.create_time())


def find(identity: ProcessId) -> psutil.Process | None:
    """Return the process if it still runs; a later one with the same number is not it."""
    try:
        process = psutil.Process(identity.pid)
        same = abs(process.create_time() - identity.started) < _CLOCK_TOLERANCE_S
        return process if same and process.status() != psutil.STATUS_ZOMBIE else None
    except psutil.NoSuchProcess:
        return None


def tree(process: psutil.Process) -> list[psutil.Process]:
    """Return a process and all that descends from it, the process first."""
    try:
        return [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def leftovers(home: Path) -> list[psutil.Process]:
    """Return every process that belongs to the stack of a home folder, its supervisor first, however it got there.

    A part's processes carry the part's name and the home folder in their environment. Both are asked for, since a
    person may have set the home folder in a shell.
    """
    found = [process for process in psutil.process_iter() if _belongs(process, home)]
    return sorted(found, key=lambda process: not _is_supervisor(process, home))


def end(processes: Iterable[psutil.Process]) -> list[psutil.Process]:
    """Kill processes and return those that are still there after a bounded wait."""
    doomed = list(processes)
    for process in doomed:
        try:
            process.kill()
        except psutil.NoSuchProcess:
            continue
    _, alive = psutil.wait_procs(doomed, timeout=_KILL_WAIT_S)
    return [process for process in alive if process.is_running() and process.status() != psutil.STATUS_ZOMBIE]


def _belongs(process: psutil.Process, home: Path) -> bool:
    if process.pid == psutil.Process().pid:
        return False
    try:
        if process.status() == psutil.STATUS_ZOMBIE:
            return False
        environment = process.environ()
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return False
    marked = PART_VARIABLE in environment and environment.get(HOME_VARIABLE) == str(home)
    return marked or _is_supervisor(process, home)


def _is_supervisor(process: psutil.Process, home: Path) -> bool:
    try:
        words = process.cmdline()
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return False
    return words[-2:] == [SUPERVISOR_MODULE, str(home)]


def orphans(supervisor: psutil.Process, known: set[int]) -> Iterator[psutil.Process]:
    """Yield the processes that parts which have died left to the supervisor, with all their descendants.

    Args:
        supervisor: a process that adopts what its descendants leave behind.
        known: the processes that it started itself and that still run.
    """
    for child in supervisor.children():
        if child.pid not in known and child.status() != psutil.STATUS_ZOMBIE:
            yield from tree(child)
