"""Uploads that can be resumed: what came so far stands on disk, with a record of what it shall become."""

import shutil
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

import anyio
from starlette.exceptions import HTTPException

from registry.disk_space import told_when_full
from registry.errors import ModelNotFound
from registry.records.base import Digest, Record
from registry.records.tenant import TenantName
from registry.uploads.admission import UploadName

_RECORD = "session.json"
_PART = "part"


class UploadSession(Record):
    """What a client said when it began an upload, and what became of it."""

    id: str
    tenant: TenantName
    filename: UploadName
    size: int
    sha256: Digest | None = None
    artifact: Digest | None = None
    """Where the upload is whole and kept: its digest."""


@dataclass
class _Turn:
    """The one request that works on a session now."""

    scope: anyio.CancelScope
    over: anyio.Event = field(default_factory=anyio.Event)


def no_upload(session_id: str) -> ModelNotFound:
    """What is said of an upload that is not there, or is another tenant's."""
    return ModelNotFound(f"there is no upload {session_id}; it was never begun, was refused, or has expired")


class UploadSessions:
    """The sessions below a folder; a restart of the process loses none."""

    def __init__(self, folder: Path, *, most_open: int, expiry_s: float) -> None:
        """Use a folder; it is made with the first session."""
        self._folder = folder
        self._most_open = most_open
        self._expiry_s = expiry_s
        self._turns: dict[str, _Turn] = {}
        self._beginning = threading.Lock()

    def begin(self, tenant: str, filename: UploadName, size: int, sha256: str | None) -> UploadSession:
        """Make a session that holds no byte yet.

        Raises:
            HTTPException: 429, as many as may be are open of this tenant.
            StorageFull: the disk has no room for a record.
        """
        self.sweep()
        session = UploadSession(id=uuid4().hex, tenant=tenant, filename=filename, size=size, sha256=sha256)
        with self._beginning, told_when_full(self._folder):
            if self._open(tenant) >= self._most_open:
                detail = f"{self._most_open} uploads are open; finish or delete one, or wait until one expires"
                raise HTTPException(429, detail, {"Retry-After": "60"})
            try:
                self.part(session).parent.mkdir(parents=True)
                self.part(session).touch()
                self._save(session)
            except OSError:
                self.end(session)
                raise
        return session

    def find(self, session_id: str) -> UploadSession:
        """Return a session.

        Raises:
            ModelNotFound: there is none, or it has expired.
        """
        folder = self._folder / session_id
        try:
            record = (folder / _RECORD).read_bytes()
        except FileNotFoundError as error:
            raise no_upload(session_id) from error
        if self._expires_at(folder) < time.time():
            raise no_upload(session_id)
        return UploadSession.model_validate_json(record)

    def part(self, session: UploadSession) -> Path:
        """The file that holds what came so far."""
        return self._folder / session.id / _PART

    def offset(self, session: UploadSession) -> int:
        """How many bytes came so far."""
        return session.size if session.artifact else self.part(session).stat().st_size

    def expires_at(self, session: UploadSession) -> float:
        """Seconds since the epoch until which a session is kept; each byte that comes puts it off."""
        return self._expires_at(self._folder / session.id)

    def finish(self, session: UploadSession, artifact: str) -> UploadSession:
        """Note what an upload became, for who missed the answer, and let its bytes go."""
        done = session.model_copy(update={"artifact": artifact})
        self._save(done)
        self.part(session).unlink()
        return done

    def end(self, session: UploadSession) -> None:
        """Remove a session and its bytes."""
        _remove(self._folder / session.id)

    def sweep(self, *, at_start: bool = False) -> None:
        """Remove sessions that have expired; at start also what a dead process left of other uploads."""
        for folder in self._sessions():
            if folder.name not in self._turns and self._expires_at(folder) < time.time():
                _remove(folder)
        if at_start and self._folder.is_dir():
            for folder in self._folder.iterdir():
                if not (folder / _RECORD).is_file():
                    shutil.rmtree(folder, ignore_errors=True)
                shutil.rmtree(folder / "tree", ignore_errors=True)

    async def keep_swept(self, every_s: float) -> None:
        """Sweep until cancelled."""
        while True:
            await anyio.to_thread.run_sync(self.sweep)
            await anyio.sleep(every_s)

    @asynccontextmanager
    async def turn(self, session_id: str) -> AsyncIterator[None]:
        """Work on a session alone.

        Whoever comes later wins: a client that resumes has lost the connection of which the server still waits for
        bytes. What came on it stays.

        Raises:
            HTTPException: 409, another request took over.
        """
        while other := self._turns.get(session_id):
            other.scope.cancel()
            await other.over.wait()
        with anyio.CancelScope() as scope:
            turn = self._turns[session_id] = _Turn(scope)
            try:
                yield
            finally:
                del self._turns[session_id]
                turn.over.set()
        if scope.cancelled_caught:
            raise HTTPException(409, "another request went on with this upload", {"Connection": "close"})

    def _open(self, tenant: str) -> int:
        """Count a tenant's sessions that still wait for bytes."""
        return sum(_tenant_waiting(folder) == tenant for folder in self._sessions())

    def _sessions(self) -> Iterator[Path]:
        return (record.parent for record in self._folder.glob(f"*/{_RECORD}"))

    def _expires_at(self, folder: Path) -> float:
        return max(_touched(folder / _PART), _touched(folder / _RECORD)) + self._expiry_s

    def _save(self, session: UploadSession) -> None:
        record = self._folder / session.id / _RECORD
        draft = record.with_suffix(".new")
        draft.write_text(session.model_dump_json(), encoding="utf-8")
        draft.replace(record)


def _remove(folder: Path) -> None:
    """The record goes first: should the process die here, no session is found that has lost its bytes."""
    (folder / _RECORD).unlink(missing_ok=True)
    shutil.rmtree(folder, ignore_errors=True)


def _tenant_waiting(folder: Path) -> str | None:
    """Whose a session is that still waits for bytes; None: it has them, or has just been removed."""
    try:
        record = (folder / _RECORD).read_bytes()
    except FileNotFoundError:
        return None
    return UploadSession.model_validate_json(record).tenant if (folder / _PART).exists() else None


def _touched(file: Path) -> float:
    try:
        return file.stat().st_mtime
    except FileNotFoundError:
        return 0.0
