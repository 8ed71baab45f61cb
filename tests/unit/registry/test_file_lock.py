"""The file lock: one holder at a time, freed with its holder, waited for with a bound."""

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from registry.errors import TransientError
from registry.file_lock import file_lock

HOLD = """
import sys
from pathlib import Path
from registry.file_lock import file_lock
with file_lock(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_the_lock_is_exclusive_and_reusable(tmp_path: Path) -> None:
    path = tmp_path / "new" / "lock"
    inside, most = 0, 0

    def work() -> None:
        nonlocal inside, most
        for _ in range(20):
            with file_lock(path):
                inside += 1
                most = max(most, inside)
                inside -= 1

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert most == 1


def test_waiting_has_a_bound_and_an_error_frees_the_lock(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with pytest.raises(KeyError), file_lock(path):
        with pytest.raises(TransientError, match="another process held"), file_lock(path, wait_s=0.05):
            pass
        raise KeyError
    with file_lock(path, wait_s=0.0):
        pass


def test_a_killed_holder_frees_the_lock(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    command = [sys.executable, "-c", HOLD, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(TransientError), file_lock(path, wait_s=0.05):
            pass
        holder.kill()
        with file_lock(path, wait_s=20):
            pass
