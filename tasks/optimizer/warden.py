"""Watch one job's process: its time, its memory, its log, its asker; end it with everything that it started."""

import os
import select
import signal
import socket
import time
from contextlib import suppress
from pathlib import Path

from tasks.optimizer.confinement import PR_SET_CHILD_SUBREAPER, control_process
from tasks.optimizer.process_request import Ended, ProcessRequest, Started, encode

_POLL_S = 0.1
_KILL_WITHIN_S = 10.0
_LOG_MIB = 256


def watch(request: ProcessRequest, job: int, asker: socket.socket) -> None:
    """Wait until a job's process ends or has to be ended, leave nothing of it, and tell the asker how it ended.

    The calling process must have the job as its only child; it becomes the parent of all orphans below it.

    Args:
        request: the job's limits and log.
        job: its process id.
        asker: the end of this connection ends the job.
    """
    ward = _Ward(request, job)
    _tell(asker, Started(pid=job))
    ending = ward.wait(asker)
    ward.kill()
    _tell(asker, Ended(ending=ending))


class _Ward:
    def __init__(self, request: ProcessRequest, job: int) -> None:
        control_process(PR_SET_CHILD_SUBREAPER, 1)
        self._request = request
        self._job = job
        self._code: int | None = None
        self._deadline = time.monotonic() + request.timeout_s

    def wait(self, asker: socket.socket) -> str:
        poller = select.poll()
        poller.register(asker, select.POLLIN | select.POLLHUP)
        with suppress(OSError):  # an old kernel: the end is seen at the next round
            poller.register(os.pidfd_open(self._job), select.POLLIN)
        while True:
            events = dict(poller.poll(self._next_look_ms()))
            if asker.fileno() in events:
                return "was ended because nobody waits for it any more"
            self._reap()
            if self._code is not None:
                return ending(self._code)
            overrun = self._overrun()
            if overrun:
                return f"{overrun} and was killed"

    def kill(self) -> None:
        """Kill the job and all below it, until none is left."""
        give_up = time.monotonic() + _KILL_WITHIN_S
        while time.monotonic() < give_up:
            self._reap()
            family = self._family()
            if not family:
                return
            for pid in family:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.005)

    def _reap(self) -> None:
        with suppress(ChildProcessError):
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if pid == 0:
                    return
                if pid == self._job:
                    self._code = os.waitstatus_to_exitcode(status)

    def _family(self) -> list[int]:
        known = [self._job] if self._code is None else []
        return list(dict.fromkeys([*known, *descendants(os.getpid())]))

    def _next_look_ms(self) -> float:
        return max(0.0, min(_POLL_S, self._deadline - time.monotonic())) * 1000

    def _overrun(self) -> str | None:
        limits = self._request
        if time.monotonic() >= self._deadline:
            return f"took longer than {limits.timeout_s:g} s"
        used_mib = _memory_mib(self._family(), limits.memory_mib)
        if used_mib > limits.memory_mib:
            return f"used {used_mib:.0f} MiB of memory, more than the {limits.memory_mib} MiB allowed,"
        with suppress(OSError):
            if Path(limits.log).stat().st_size > _LOG_MIB * 2**20:
                return f"printed more than {_LOG_MIB} MiB"
        return None


def children(pid: int) -> list[int]:
    """Return the processes whose parent is a process; none if it is gone."""
    found: list[int] = []
    with suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            found += map(int, (task / "children").read_text(encoding="ascii").split())
    return found


def descendants(pid: int) -> list[int]:
    """Return all processes below a process."""
    return [below for child in children(pid) for below in (child, *descendants(child))]


def ending(code: int) -> str:
    """Say how a process ended by itself: its exit code, or below zero the signal."""
    if code >= 0:
        return f"ended with exit code {code} and no result"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    hint = " (the system may have run out of memory)" if name == "SIGKILL" else ""
    return f"was ended by {name}{hint}"


def _memory_mib(family: list[int], limit_mib: int) -> float:
    """Memory of some processes; pages that they share with the server are looked at only where it matters."""
    used = sum(_resident_bytes(pid) for pid in family) / 2**20
    if used <= limit_mib:
        return used
    return sum(_proportional_bytes(pid) for pid in family) / 2**20


def _resident_bytes(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


def _proportional_bytes(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines()
    except OSError:
        return _resident_bytes(pid)
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:")), _resident_bytes(pid))


def _tell(asker: socket.socket, message: Started | Ended) -> None:
    with suppress(OSError):
        asker.send(encode(message))
