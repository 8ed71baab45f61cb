"""Crash guard: finds out which version ended the worker before this one, and keeps those that do so again unloaded.

A worker leaves two files behind: its flight record, and a report that Python's fault handler writes when the process
crashes or its event loop stands still. Without a report it was killed, by a person or by the kernel for want of memory:
then only a version that was being loaded is suspected.
"""

import faulthandler
import logging
import re
import threading
import time
from pathlib import Path
from typing import TextIO

from registry.errors import TransientError
from registry.records.model import ServedVersion
from serving.engine.batcher import Contain
from serving.engine.deaths import DeathBook
from serving.engine.flight_record import Contained, FlightRecord, Visit, read_record

LOAD_FACTOR = 10
"""A load may take this many times as long as a run before it counts as hanging."""
RETRIED_SECONDS = 30.0
"""A retried request may belong to a worker that ended this long ago."""

_FATAL = re.compile(r"^Fatal Python error: (.+)$", re.MULTILINE)
_CURRENT = re.compile(r"^Current thread 0x([0-9a-f]+)", re.MULTILINE)
_LOOP = re.compile(r"^loop thread 0x([0-9a-f]+)", re.MULTILINE)
_STALLED = re.compile(r"^Timeout \(", re.MULTILINE)
_log = logging.getLogger(__name__)


class CrashGuard:
    """One worker's files, and the book of deaths that all workers of an engine share."""

    def __init__(self, folder: Path, worker: str, run_seconds: float, contained: Contained) -> None:
        """Take where the files are, the worker's name in them, how long a run may take, and how sessions are guarded.

        Nothing is read or written before ``begin``.
        """
        self._book = DeathBook(folder / "deaths.json")
        self._record_path = folder / f"{worker}.record"
        self._report_path = folder / f"{worker}.report"
        self._run_seconds = run_seconds
        self._contained = contained
        self._record = FlightRecord(contained)
        self._report: TextIO | None = None
        self._overdue: str | None = None

    def begin(self) -> None:
        """Judge how the worker before this one ended, then begin a record and a report of this one."""
        self._report_path.parent.mkdir(parents=True, exist_ok=True)
        report = _read(self._report_path)
        suspects, how = judge(report, read_record(self._record_path))
        if suspects:
            self._book.add(suspects, how)
        if report.count("\n") > 1:
            _log.error("the worker before this one ended by itself:\n%s", report)
        self._record = FlightRecord(self._contained, self._record_path)
        self._report = self._report_path.open("w", encoding="utf-8")
        self._report.write(f"loop thread {threading.get_ident():#x}\n")
        self._report.flush()
        faulthandler.enable(self._report)

    def around(self, digest: str, *, loading: bool) -> Contain:
        """Return the guard of the session of a version, given by its digest, which notes which thread is in it.

        Raises:
            TransientError: the version shall be loaded, and has ended too many workers of late.
        """
        if loading and (reason := self._book.refusal(digest)):
            raise TransientError(reason)
        return self._record.around(digest, loading=loading)

    def check_retried(self, served: ServedVersion) -> None:
        """Check a request that another worker had before and did not answer; reads what the others left.

        Raises:
            TransientError: its version has just ended that worker.
        """
        for path in self._report_path.parent.glob("*.report"):
            report = _read(path) if path != self._report_path else ""
            ended = _FATAL.search(report) or _STALLED.search(report)
            if ended and served.digest in judge(report, read_record(path.with_suffix(".record")))[0]:
                break
        else:
            deaths = self._book.of(served.digest)
            if deaths is None or time.time() - deaths.last > RETRIED_SECONDS:
                return
        raise TransientError(f"version {served.version} has just ended another worker; the request is not tried again")

    def overdue(self) -> str | None:
        """Say that a run or a load takes longer than it may; None if none does.

        The first one found is counted against its version, once, and told from then on: it is why the worker ends.
        """
        now = time.monotonic_ns()
        for visit in self._record.visits() if self._overdue is None else ():
            seconds = (now - visit.since_ns) / 1e9
            if seconds > self._run_seconds * (LOAD_FACTOR if visit.loading else 1):
                what = "load" if visit.loading else "run"
                self._overdue = f"a {what} of the version with the digest {visit.digest[:12]} took over {seconds:.0f} s"
                self._book.add(frozenset({visit.digest}), f"a {what} hung")
                break
        return self._overdue

    def end_after(self, seconds: float) -> None:
        """End the process after some time with a report of where it was, unless this is called again before.

        The fault handler has a thread of its own that needs neither the event loop nor Python's lock.
        """
        if self._report is not None:
            faulthandler.dump_traceback_later(seconds, exit=True, file=self._report)

    def close(self) -> None:
        """The worker ends in the orderly way: leave nothing to be judged."""
        if self._report is None:
            return
        faulthandler.cancel_dump_traceback_later()
        faulthandler.disable()
        self._report.close()
        self._report = None
        self._report_path.unlink(missing_ok=True)
        self._record_path.unlink(missing_ok=True)


def _read(report: Path) -> str:
    """Read a report; a worker that ends in the orderly way removes its own at any time."""
    try:
        return report.read_text(errors="replace")
    except FileNotFoundError:
        return ""


def judge(report: str, visits: tuple[Visit, ...]) -> tuple[frozenset[str], str]:
    """Say which versions, by digest, are suspected of having ended a worker, and how."""
    if fatal := _FATAL.search(report):
        current = _CURRENT.search(report)
        # A thread of a native library is no thread of Python's: then whatever ran is suspected.
        thread = int(current[1], 16) if current else None
        return frozenset(visit.digest for visit in visits if thread in (None, visit.thread)), f"crash: {fatal[1]}"
    if _STALLED.search(report):
        loop = _LOOP.search(report)
        stuck = frozenset(visit.digest for visit in visits if loop and visit.thread == int(loop[1], 16))
        return stuck, "the event loop stood still in a run"
    return frozenset(visit.digest for visit in visits if visit.loading), "killed while it was loaded"
