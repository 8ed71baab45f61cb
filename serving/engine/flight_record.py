"""Flight record: which version each thread of this process is in, kept in a file that outlives the process.

The file is mapped into memory, so that a note costs a few stores and no call of the system, and what stands in it
survives any death of the process. Layout: one line (64 bytes, the digest) for each session, then two 64-bit words for
each: the thread that is in it (0: none; the top bit is set while the version is loaded, not run), and since
when, in nanoseconds of the monotonic clock. Models may have versions of one digest, and a version may be loaded again
while a run of its last session hangs: with a line for each digest, one that came out would hide the other.
"""

import mmap
import os
import threading
import weakref
from collections.abc import Iterator
from pathlib import Path
from struct import Struct
from typing import NamedTuple, Protocol

import numpy as np

from serving.engine.batcher import Contain

LINES = 2**16
"""Sessions that one process can tell apart at a time; those beyond them share the last line."""

_DIGEST_BYTES = 64
_NOTE = Struct("=QQ")
_WORDS = 2
_NOTES = LINES * _DIGEST_BYTES
_SIZE = _NOTES + LINES * _NOTE.size
_LOADING = 1 << 63


class Contained(Protocol):
    """Makes the guard of a session that notes who is in it."""

    def __call__(self, notes: "memoryview[int]", place: int, flag: int) -> Contain:
        """Return a guard that writes the thread, with the flag, at a place of the notes, and since when next to it."""
        ...


class Around(Protocol):
    """Gives the guard of the session of a version, given by its digest."""

    def __call__(self, digest: str, *, loading: bool) -> Contain:
        """Return the guard; a version that must not be loaded is a BurnishError."""
        ...


class Visit(NamedTuple):
    """A thread that is, or was at the end, in a version."""

    digest: str
    thread: int
    loading: bool
    since_ns: int


class FlightRecord:
    """The record of this process. A session is in one thread at a time: it runs one batch."""

    def __init__(self, contained: Contained, path: Path | None = None) -> None:
        """Begin an empty record in the place of the one that was there; without a path it ends with the process."""
        self._contained = contained
        self._memory = _file(path) if path else mmap.mmap(-1, _SIZE)
        self._words = memoryview(self._memory)[_NOTES:].cast("Q")
        self._lines = 0
        """That were ever used."""
        self._free: list[int] = []
        self._lock = threading.Lock()

    def around(self, digest: str, *, loading: bool) -> Contain:
        """Return the guard of a load or a session of a version, given by its digest: it notes which thread is in it."""
        line = self._line(digest)
        guard = self._contained(self._words, _WORDS * line, _LOADING if loading else 0)
        if line < LINES - 1:
            weakref.finalize(guard, self._free.append, line).atexit = False
        return guard

    def visits(self) -> tuple[Visit, ...]:
        """Return where the threads are now."""
        return tuple(_visits(memoryview(self._memory), self._lines))

    def _line(self, digest: str) -> int:
        """Give a digest a line that nobody has."""
        with self._lock:
            line = self._free.pop() if self._free else min(self._lines, LINES - 1)
            self._lines = max(self._lines, line + 1)
            start = line * _DIGEST_BYTES
            self._memory[start : start + _DIGEST_BYTES] = digest.encode().ljust(_DIGEST_BYTES)[:_DIGEST_BYTES]
            return line


def _file(path: Path) -> mmap.mmap:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        os.ftruncate(descriptor, _SIZE)
        return mmap.mmap(descriptor, _SIZE)
    finally:
        os.close(descriptor)


def read_record(path: Path) -> tuple[Visit, ...]:
    """Return where the threads of a process were when it ended; nothing if it left no whole record."""
    try:
        content = path.read_bytes()
    except OSError:
        return ()
    return tuple(_visits(memoryview(content), LINES)) if len(content) == _SIZE else ()


def _visits(memory: memoryview, lines: int) -> Iterator[Visit]:
    """Thousands of lines are looked at twice a second, so this is no loop of Python's."""
    threads = np.frombuffer(memory, np.uint64, _WORDS * lines, _NOTES)[::_WORDS]
    for line in np.flatnonzero(threads).tolist():
        thread, since_ns = _NOTE.unpack_from(memory, _NOTES + line * _NOTE.size)
        if thread:  # it may have come out meanwhile
            digest = bytes(memory[line * _DIGEST_BYTES : (line + 1) * _DIGEST_BYTES]).decode("ascii", "replace")
            yield Visit(digest.strip(), thread & ~_LOADING, bool(thread & _LOADING), since_ns)
