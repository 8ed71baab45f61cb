"""What this process holds of the machine's memory, and how it gives memory back."""

import ctypes
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path

import psutil

_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_BLOCK_BYTES = 2**17
_KEPT_BYTES = 2**20
"""Of freed memory at the end of each arena: small sessions come and go by the hundred in a second."""
_PEAK_RESET = "5"
"""Written to ``clear_refs``, it sets the peak to what is resident now. Source: proc(5)."""
_here = threading.local()


class _MallocInfo(ctypes.Structure):
    """What glibc's allocator holds, over all its arenas. Source: mallinfo(3)."""

    _fields_ = tuple(
        (name, ctypes.c_size_t)
        for name in (
            "arena",
            "ordblks",
            "smblks",
            "hblks",
            "hblkhd",
            "usmblks",
            "fsmblks",
            "uordblks",
            "fordblks",
            "keepcost",
        )
    )


def resident_set_bytes() -> int:
    """Return the memory that this process occupies now, with what its allocator keeps for later."""
    return int(_process().memory_info().rss)


def allocated_bytes() -> int:
    """Return the memory in use now, or where the allocator does not tell (it is not glibc's), all that is occupied.

    Unlike the resident set it does not depend on what was freed before: a session that moves into freed memory counts
    in full.
    """
    libc = _glibc()
    if getattr(_here, "unmeasured", False):
        return 0
    if libc is None:
        return resident_set_bytes()
    info = libc.mallinfo2()
    return int(info.uordblks + info.hblkhd)


@contextmanager
def unmeasured() -> Iterator[None]:
    """Spare this thread the measurement, which looks at every free block: ``allocated_bytes`` returns 0 within."""
    _here.unmeasured = True
    try:
        yield
    finally:
        _here.unmeasured = False


def give_back() -> None:
    """Return to the system what the allocator keeps of freed memory; takes milliseconds, so not on an event loop."""
    libc = _glibc()
    if libc is not None:
        libc.malloc_trim(0)


def keep_large_blocks_apart() -> None:
    """Have every block of 128 KiB or more mapped by itself from now on, so that it goes back when it is freed.

    Left alone, glibc moves that size up to 32 MiB with what is freed, and the weights of an unloaded model stay behind
    between the blocks of others. Source: mallopt(3).
    """
    libc = _glibc()
    if libc is not None:
        libc.mallopt(_M_MMAP_THRESHOLD, _BLOCK_BYTES)
        libc.mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)


def start_peak() -> int:
    """Begin a measurement of the peak of the resident set, and return the resident set now."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text(_PEAK_RESET)
    return resident_set_bytes()


def peak_bytes() -> int:
    """Return the peak of the resident set since ``start_peak``; where nobody tells, what is resident now."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return resident_set_bytes()
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:")), resident_set_bytes())


def thread_count() -> int:
    """Return how many threads this process has."""
    return int(_process().num_threads())


def _process() -> psutil.Process:
    return _process_of(os.getpid())


@lru_cache(maxsize=1)
def _process_of(pid: int) -> psutil.Process:
    """One process; asked by number because a fork has another."""
    return psutil.Process(pid)


@lru_cache(maxsize=1)
def _glibc() -> ctypes.CDLL | None:
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "mallinfo2"):
        return None
    libc.mallinfo2.restype = _MallocInfo
    return libc
