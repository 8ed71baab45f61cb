"""How an upload comes in, whichever way it is sent: streamed to disk, checked, kept by content."""

import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Protocol

import anyio
from fastapi import Request
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException

from flows import api_quotas
from flows.api_audit import add_evidence
from flows.api_auth import Caller
from flows.api_platform import Platform
from flows.settings import StackSettings
from registry.digest import file_digest
from registry.disk_space import require_room, told_when_full
from registry.errors import InputError
from registry.uploads.admission import UploadName, admit
from registry.uploads.limits import UploadLimits

CLOSE = {"Connection": "close"}
"""With an answer to a body that was not read to its end: what is left of it is not waited for."""


class _Hash(Protocol):
    def update(self, data: bytes, /) -> None: ...


def uploads_folder(settings: StackSettings) -> Path:
    """Where uploads stand until they are kept or refused."""
    return settings.work_folder / "uploads"


def require_space(platform: Platform, who: Caller, size: int) -> None:
    """Refuse an upload by the size that it declares, before a byte of it is read.

    Raises:
        HTTPException: 413, it is beyond the bound; 403, it is beyond the tenant's quota.
        StorageFull: the disks have no room for it and for the artifact that is made of it.
    """
    settings = platform.settings
    api_quotas.require_bytes(platform, who, size)
    if size > settings.upload_max_bytes:
        raise too_large(settings.upload_max_bytes)
    folders = (uploads_folder(settings), settings.artifacts_folder)
    for folder in folders:
        folder.mkdir(parents=True, exist_ok=True)
    one_disk = len({folder.stat().st_dev for folder in folders}) == 1
    for folder in folders:
        require_room(folder, size * 2 if one_disk else size)


def too_large(bound: int) -> HTTPException:
    """The refusal of a body beyond a bound."""
    return HTTPException(413, f"an upload may have at most {bound} bytes", CLOSE)


async def receive(request: Request, target: Path, *, most: int, idle_s: float, digest: _Hash | None = None) -> None:
    """Append a request's body to a file, one chunk in memory at a time.

    Args:
        request: its body is read.
        target: the file; made if it is not there.
        most: the bytes that may come.
        idle_s: how long nothing may come.
        digest: is fed the bytes.

    Raises:
        HTTPException: 413, more came; 408, nothing came for too long.
        StorageFull: the disk has no room left.
        ClientDisconnect: the connection was cut; what came before stands in the file.
    """
    left = most
    with told_when_full(target.parent), target.open("ab") as stream:
        async for chunk in _chunks(request, idle_s):
            left -= len(chunk)
            if left < 0:
                raise too_large(most)
            if digest is not None:
                digest.update(chunk)
            await run_in_threadpool(stream.write, chunk)


async def _chunks(request: Request, idle_s: float) -> AsyncIterator[bytes]:
    body = aiter(request.stream())
    while True:
        try:
            with anyio.fail_after(idle_s):
                chunk = await anext(body)
        except StopAsyncIteration:
            return
        except TimeoutError as error:
            raise HTTPException(408, f"the upload sent nothing for {idle_s:g} s", CLOSE) from error
        yield chunk


def keep(
    platform: Platform, who: Caller, file: Path, name: UploadName, *, sha256: str | None, expected: str | None
) -> str:
    """Check a whole upload, store what it holds as an artifact and return the artifact's digest.

    Here, and nowhere else, an upload becomes an artifact.

    Args:
        platform: the stores and the settings.
        who: whose the artifact will be.
        file: what came in, in a folder of its own.
        name: what it is.
        sha256: of the file, where it is known already.
        expected: the sha256 that the client said.

    Raises:
        InputError: other bytes came than were sent, or they are not what the name says; nothing was stored.
        HTTPException: 403, it does not fit into the tenant's quota of stored bytes.
        StorageFull: there is no room for it; nothing was stored.
        TransientError: the artifact store cannot be reached.
    """
    if expected is not None and (found := sha256 or file_digest(file)) != expected:
        raise InputError(f"{name.value} arrived with sha256 {found}, not {expected}; send it again")
    settings = platform.settings
    limits = UploadLimits(
        max_bytes=settings.upload_max_bytes,
        unpacked_bytes=settings.upload_unpacked_bytes,
        members=settings.upload_members,
        ratio=settings.upload_ratio,
    )
    tree = file.parent / "tree"
    tree.mkdir()
    try:
        admit(file, name, limits, tree)
        api_quotas.require_bytes(platform, who, sum(one.stat().st_size for one in tree.rglob("*") if one.is_file()))
        digest = platform.artifacts.put(tree)
        api_quotas.own(platform, who, digest)
        add_evidence(file=name.value, artifact=digest)
        return digest
    finally:
        shutil.rmtree(tree)
