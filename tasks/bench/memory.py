"""Measure what memory a session needs: in a forked child of its own, before anything else was loaded."""

import multiprocessing
import os
import re
import resource
import sys
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

import psutil

from registry.errors import BurnishError, CandidateError

_REGION = re.compile(r"[0-9a-f]+-[0-9a-f]+ ")
_PROGRAM = re.compile(r"\.so(\.[\d.]+)?$|/python[\d.]*$")


def peak_memory_mib(work: Callable[[], None], log: Path, *, timeout_s: float) -> float:
    """Return the resident memory that some work adds at its peak, pages of program code left out.

    The work runs in a fork, so that this process stays as it is, whatever the work does. Pages of shared libraries
    belong to all sessions together, and a fork has to touch them anew.

    Args:
        work: loads and runs a session.
        log: receives what the work prints.
        timeout_s: after this the fork is killed.

    Raises:
        CandidateError: the work raised, crashed or took too long.
    """
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_work_and_tell, args=(work, log, sender))
    process.start()
    sender.close()
    try:
        if not receiver.poll(timeout_s):
            raise CandidateError(f"took longer than {timeout_s:g} s to load and run")
        told: float | str = receiver.recv()
    except EOFError:
        process.join()
        raise CandidateError(_ending(process.exitcode or 0, log)) from None
    finally:
        process.kill()
        process.join()
        receiver.close()
    if isinstance(told, str):
        raise CandidateError(told)
    return told


def _work_and_tell(work: Callable[[], None], log: Path, sender: Connection) -> None:
    # Of this fork, until it ends: what Python prints and what libraries print.
    sys.stdout = sys.stderr = log.open("w", encoding="utf-8", buffering=1)
    os.dup2(sys.stderr.fileno(), 1)
    os.dup2(sys.stderr.fileno(), 2)
    before = psutil.Process().memory_info().rss - _program_bytes()
    try:
        work()
    except BurnishError as error:
        sender.send(str(error))
        return
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    sender.send(max(0, peak - _program_bytes() - before) / 2**20)


def _program_bytes() -> int:
    """Resident pages of the interpreter and of shared libraries.

    Read line by line: psutil's list of the regions takes several MiB itself in a process that has loaded much.
    """
    total = 0
    program = False
    with Path("/proc/self/smaps").open(encoding="utf-8", errors="surrogateescape") as lines:
        for line in lines:
            if _REGION.match(line):
                program = _PROGRAM.search(line.rstrip()) is not None
            elif program and line.startswith("Rss:"):
                total += int(line.split()[1]) * 1024
    return total


def _ending(exit_code: int, log: Path) -> str:
    if exit_code < 0:
        return f"was ended by signal {-exit_code} while it was loaded and run"
    lines = [line for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    return lines[-1].strip() if lines else f"ended with exit code {exit_code}"
