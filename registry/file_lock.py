"""One holder at a time among the processes of one host: an advisory lock on a file, awaited with a bound."""

import fcntl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from registry.errors import TransientError

_POLL_S = 0.01


@contextmanager
def file_lock(path: Path, *, wait_s: float = 30.0) -> Iterator[None]:
    """Hold the lock on a file (made if missing, never removed); the kernel frees it when its holder dies.

    Raises:
        TransientError: somebody else held it for the whole wait.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + wait_s
    with path.open("ab") as stream:
        while not _try_lock(stream.fileno()):
            if time.monotonic() > deadline:
                raise TransientError(f"another process held {path} for {wait_s:.0f} s; try again")
            time.sleep(_POLL_S)
        yield


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
