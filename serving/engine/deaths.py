"""Deaths: which versions ended workers of this engine, counted in one file that all of its workers share."""

import logging
import time
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from registry.errors import TransientError
from registry.file_lock import file_lock
from registry.records.base import Record

MOST_DEATHS = 2
"""A version that has ended workers this often is not loaded for a while."""
REFUSED_SECONDS = 600.0
"""How long, after the last one; then it is tried again, once."""
FORGOTTEN_SECONDS = 3600.0
"""A version that has ended no worker for this time starts anew."""

_log = logging.getLogger(__name__)


class Deaths(Record):
    """How often one version ended a worker."""

    count: int
    last: float
    """Unix time."""
    how: str


_FILE: TypeAdapter[dict[str, Deaths]] = TypeAdapter(dict[str, Deaths])


class DeathBook:
    """The file; read again when it has changed."""

    def __init__(self, path: Path) -> None:
        """Take its place; it need not be there."""
        self._path = path
        self._stamp: tuple[int, int] | None = None
        self._known: dict[str, Deaths] = {}

    def add(self, versions: frozenset[str], how: str) -> None:
        """Count one death for each of some versions, given by their digests; where it cannot be kept, it is said.

        A worker that is to be replaced, or begins, does so in any case.
        """
        try:
            self._add(versions, how)
        except (OSError, TransientError) as error:
            _log.error("%s cannot be written, so what ended a worker is not counted: %s", self._path, error)

    def _add(self, versions: frozenset[str], how: str) -> None:
        now = time.time()
        with file_lock(self._path.with_suffix(".lock")):
            known = {digest: deaths for digest, deaths in self._read().items() if now - deaths.last < FORGOTTEN_SECONDS}
            for digest in versions:
                before = known[digest].count if digest in known else 0
                known[digest] = Deaths(count=before + 1, last=now, how=how)
            draft = self._path.with_suffix(".new")
            draft.write_bytes(_FILE.dump_json(known))
            draft.replace(self._path)

    def of(self, digest: str) -> Deaths | None:
        """Return what is known of a version; None if it ended no worker of late."""
        deaths = self._read().get(digest)
        return deaths if deaths and time.time() - deaths.last < FORGOTTEN_SECONDS else None

    def refusal(self, digest: str) -> str | None:
        """Say why a version is not to be loaded now; None if it may be."""
        deaths = self.of(digest)
        if deaths is None or deaths.count < MOST_DEATHS:
            return None
        left = deaths.last + REFUSED_SECONDS - time.time()
        if left <= 0:
            return None
        return (
            f"it has ended {deaths.count} workers ({deaths.how}), so it is not loaded for another {left:.0f} s; "
            "release another version"
        )

    def _read(self) -> dict[str, Deaths]:
        try:
            stat = self._path.stat()
            stamp = stat.st_mtime_ns, stat.st_ino
            if stamp != self._stamp:
                self._known = _FILE.validate_json(self._path.read_bytes())
                self._stamp = stamp
        except FileNotFoundError:
            self._known, self._stamp = {}, None
        except (OSError, ValidationError) as error:
            _log.error("%s cannot be read, so no version is refused for what it did before: %s", self._path, error)
            self._known, self._stamp = {}, None
        return self._known
