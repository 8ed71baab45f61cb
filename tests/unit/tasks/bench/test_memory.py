"""Peak memory of a piece of work in a fork, and the ways the work can end."""

import mmap
import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest

from registry.errors import CandidateError
from tasks.bench.memory import peak_memory_mib


def measure(work: object, folder: Path, timeout_s: float = 60) -> float:
    assert callable(work)
    return peak_memory_mib(work, folder / "log.txt", timeout_s=timeout_s)


def test_the_peak_counts_even_if_the_memory_is_given_back(tmp_path: Path) -> None:
    def work() -> None:
        held = np.ones(64 * 2**20, np.uint8)
        del held

    assert 60 < measure(work, tmp_path) < 80


def test_small_work_needs_little_however_much_the_caller_holds(tmp_path: Path) -> None:
    # Each is a region of its own, as each part of a library is: looking through them takes no memory to speak of.
    regions = [mmap.mmap(-1, mmap.PAGESIZE) for _ in range(3000)]
    assert measure(lambda: None, tmp_path) < 4
    del regions


def test_the_caller_is_untouched(tmp_path: Path) -> None:
    found: list[int] = []
    measure(lambda: found.append(1), tmp_path)
    assert found == []


def test_our_own_errors_keep_their_words(tmp_path: Path) -> None:
    def work() -> None:
        raise CandidateError("the graph has no outputs")

    with pytest.raises(CandidateError, match=r"^the graph has no outputs$"):
        measure(work, tmp_path)


def test_a_librarys_error_is_told_by_its_last_line(tmp_path: Path) -> None:
    with pytest.raises(CandidateError, match="ZeroDivisionError: division by zero"):
        measure(lambda: 1 / 0, tmp_path)
    assert "Traceback" in (tmp_path / "log.txt").read_text()


def test_a_crash_is_told_by_its_signal(tmp_path: Path) -> None:
    with pytest.raises(CandidateError, match=f"signal {int(signal.SIGKILL)}"):
        measure(lambda: os.kill(os.getpid(), signal.SIGKILL), tmp_path)


def test_work_that_hangs_is_killed(tmp_path: Path) -> None:
    with pytest.raises(CandidateError, match=r"took longer than 0\.3 s"):
        measure(lambda: time.sleep(60), tmp_path, timeout_s=0.3)
