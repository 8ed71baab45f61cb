"""Room on disk: asked for before bytes are taken, and told in one error when it ends all the same."""

import errno
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from registry.errors import StorageFull

_FULL = (errno.ENOSPC, errno.EDQUOT)
RESERVED_SHARE = 0.01
"""Of every disk; what nobody can take by an upload, so that ledger and logs can still be written."""


def require_room(folder: Path, size: int) -> None:
    """Check that a folder's disk can take so many bytes and keep its reserve.

    Raises:
        StorageFull: it cannot.
    """
    usage = shutil.disk_usage(folder)
    free = usage.free - int(usage.total * RESERVED_SHARE)
    if size > free:
        raise StorageFull(f"{size} bytes do not fit: the disk of {folder} has {max(0, free)} left to give; make room")


@contextmanager
def told_when_full(folder: Path) -> Iterator[None]:
    """Turn what the operating system says of a full disk into ``StorageFull``.

    Raises:
        StorageFull: the disk, or the quota on it, was full.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in _FULL:
            raise
        raise StorageFull(f"the disk of {folder} is full; make room and try again") from error
