"""Uploads that can be resumed: the tus protocol 1.0.0 with creation, expiration, checksum and termination.

Source: https://tus.io/protocols/resumable-upload (1.0.0). Beside it: ``Upload-Metadata`` must hold ``filename`` and may
hold ``sha256`` of the whole file; the answer to the last PATCH, and HEAD from then on, carry ``x-burnish-artifact``:
the digest of the artifact that the upload became.
"""

import base64
import binascii
import hashlib
import os
from email.utils import formatdate
from typing import Annotated

from fastapi import APIRouter, Depends, Header, Path, Request, Response
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import Message, Receive, Scope, Send

from flows.api_auth import Caller, Who
from flows.api_once import OnceRoute
from flows.api_platform import Platform, Stack
from flows.api_problems import problem
from flows.settings import StackSettings
from flows.upload_intake import CLOSE, keep, receive, require_space, uploads_folder
from flows.upload_sessions import UploadSession, UploadSessions, no_upload
from registry.errors import InputError, StorageFull
from registry.uploads.admission import UploadName

VERSION = "1.0.0"
ARTIFACT = "x-burnish-artifact"
SWEEP_S = 60.0
_EXTENSIONS = "creation,expiration,checksum,termination"
_ALGORITHMS = ("sha1", "sha256")
_CHECKSUM_MISMATCH = 460
_PART_TYPE = "application/offset+octet-stream"
_RAW_BODY = {
    "requestBody": {"required": True, "content": {_PART_TYPE: {"schema": {"type": "string", "format": "binary"}}}}
}


class _TusRoute(OnceRoute):
    """Every answer names the protocol's version, refusals too."""

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def named(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)["Tus-Resumable"] = VERSION
            await send(message)

        await super().handle(scope, receive, named)


def _speaks_tus(tus_resumable: Annotated[str, Header()] = VERSION) -> None:
    if tus_resumable != VERSION:
        raise HTTPException(412, f"tus {tus_resumable} is not spoken here; use {VERSION}", {"Tus-Version": VERSION})


router = APIRouter(tags=["artifacts"], prefix="/uploads", route_class=_TusRoute)
_tus = [Depends(_speaks_tus)]


def upload_sessions(settings: StackSettings) -> UploadSessions:
    """Build the sessions of a stack."""
    return UploadSessions(
        uploads_folder(settings), most_open=settings.upload_open, expiry_s=settings.upload_expiry_seconds
    )


def _sessions(request: Request) -> UploadSessions:
    sessions = request.app.state.upload_sessions
    if not isinstance(sessions, UploadSessions):
        raise TypeError("the application was built without upload sessions")
    return sessions


Sessions = Annotated[UploadSessions, Depends(_sessions)]
SessionId = Annotated[str, Path(pattern=r"^[0-9a-f]{32}$")]


def _own_upload(upload_id: SessionId, sessions: Sessions, who: Who) -> str:
    if sessions.find(upload_id).tenant != who.tenant:
        raise no_upload(upload_id)
    return upload_id


OwnUpload = Annotated[str, Depends(_own_upload)]
"""The upload that a path names, if the caller has begun it."""


@router.options("", status_code=204)
def offer(platform: Stack) -> Response:
    """Say which parts of tus are spoken, and how large an upload may be."""
    headers = {
        "Tus-Version": VERSION,
        "Tus-Extension": _EXTENSIONS,
        "Tus-Max-Size": str(platform.settings.upload_max_bytes),
        "Tus-Checksum-Algorithm": ",".join(_ALGORITHMS),
    }
    return Response(status_code=204, headers=headers)


@router.post("", status_code=201, dependencies=_tus)
def begin(
    request: Request,
    platform: Stack,
    who: Who,
    sessions: Sessions,
    upload_length: Annotated[int, Header(ge=1, description="The file's bytes.")],
    upload_metadata: Annotated[str, Header(max_length=4096, description="`filename`, and perhaps `sha256`; base64.")],
) -> Response:
    """Begin an upload; nothing of it is read until there is room for all of it."""
    require_space(platform, who, upload_length)
    metadata = _metadata(upload_metadata)
    filename, sha256 = metadata.get("filename", ""), metadata.get("sha256")
    if filename not in list(UploadName):
        raise InputError(f"Upload-Metadata: filename is {filename!r}; expected one of {', '.join(UploadName)}")
    if sha256 is not None and not (len(sha256) == 64 and set(sha256) <= set("0123456789abcdef")):
        raise InputError(f"Upload-Metadata: sha256 is {sha256[:80]!r}; expected 64 lowercase hex digits")
    session = sessions.begin(who.tenant, UploadName(filename), upload_length, sha256)
    headers = {"Location": f"{request.url.path}/{session.id}", **_expiry(sessions, session)}
    return Response(status_code=201, headers=headers)


@router.head("/{upload_id}", dependencies=_tus)
async def stand(upload_id: OwnUpload, sessions: Sessions) -> Response:
    """Say how much has come; what is still coming on another connection is no longer waited for."""
    async with sessions.turn(upload_id):
        headers = _stand(sessions, sessions.find(upload_id))
    return Response(headers=headers)


@router.delete("/{upload_id}", status_code=204, dependencies=_tus)
async def end(upload_id: OwnUpload, sessions: Sessions) -> Response:
    """Give an upload up and remove what came of it."""
    async with sessions.turn(upload_id):
        sessions.end(sessions.find(upload_id))
    return Response(status_code=204)


@router.patch("/{upload_id}", status_code=204, dependencies=_tus, openapi_extra=_RAW_BODY)
async def go_on(
    upload_id: OwnUpload,
    request: Request,
    platform: Stack,
    who: Who,
    sessions: Sessions,
    upload_offset: Annotated[int, Header(ge=0, description="Where the body begins in the file.")],
    content_type: Annotated[str, Header(description=_PART_TYPE)],
    upload_checksum: Annotated[str | None, Header(description="`sha256 <base64>` of this body.")] = None,
) -> Response:
    """Append the body; with the last byte the upload is checked and kept, and the answer names its artifact."""
    if content_type != _PART_TYPE:
        raise HTTPException(415, f"the body is {content_type!r}; send it as {_PART_TYPE}")
    checksum = _Checksum(upload_checksum)
    async with sessions.turn(upload_id):
        session = sessions.find(upload_id)
        offset = sessions.offset(session)
        if upload_offset != offset:
            raise HTTPException(409, f"{offset} bytes have come, so the next part begins there, not at {upload_offset}")
        try:
            if not await _append(request, platform.settings, sessions, session, checksum):
                return problem(_CHECKSUM_MISMATCH, "checksum-mismatch", "the part arrived damaged; send it again")
            if session.artifact is None and sessions.offset(session) == session.size:
                session = await run_in_threadpool(_finish, platform, who, sessions, session)
        except (InputError, StorageFull):
            sessions.end(session)
            raise
        headers = _stand(sessions, session)
    return Response(status_code=204, headers=headers)


async def _append(
    request: Request, settings: StackSettings, sessions: UploadSessions, session: UploadSession, checksum: "_Checksum"
) -> bool:
    """Append a request's body; False, and nothing is appended, if it is not what its checksum says."""
    left = session.size - sessions.offset(session)
    if int(request.headers.get("content-length", 0)) > left:
        raise HTTPException(413, f"the body is longer than the {left} bytes that are still to come", CLOSE)
    if not left:
        return True
    part, idle_s, right = sessions.part(session), settings.upload_idle_seconds, False
    try:
        await receive(request, part, most=left, idle_s=idle_s, digest=checksum.running)
        right = checksum.matches()
    except ClientDisconnect as error:
        raise HTTPException(400, "the connection was cut; ask by HEAD how much has come, and go on there") from error
    finally:
        if checksum.running is not None and not right:
            os.truncate(part, session.size - left)
    return right


def _finish(platform: Platform, who: Caller, sessions: UploadSessions, session: UploadSession) -> UploadSession:
    try:
        artifact = keep(platform, who, sessions.part(session), session.filename, sha256=None, expected=session.sha256)
    except HTTPException:  # beyond the quota
        sessions.end(session)
        raise
    return sessions.finish(session, artifact)


def _stand(sessions: UploadSessions, session: UploadSession) -> dict[str, str]:
    headers = {
        "Upload-Offset": str(sessions.offset(session)),
        "Upload-Length": str(session.size),
        "Cache-Control": "no-store",
        **_expiry(sessions, session),
    }
    return headers | ({ARTIFACT: session.artifact} if session.artifact else {})


def _expiry(sessions: UploadSessions, session: UploadSession) -> dict[str, str]:
    return {"Upload-Expires": formatdate(sessions.expires_at(session), usegmt=True)}


def _metadata(header: str) -> dict[str, str]:
    """Read ``Upload-Metadata``: keys with base64 values, separated by commas."""
    found: dict[str, str] = {}
    for pair in header.split(","):
        key, _, value = pair.strip().partition(" ")
        try:
            text = base64.b64decode(value, validate=True).decode("utf-8")
        except (binascii.Error, UnicodeDecodeError) as error:
            raise InputError(f"Upload-Metadata: the value of {key[:80]!r} is not text in base64") from error
        if not key or key in found:
            raise InputError(f"Upload-Metadata: the key {key[:80]!r} is empty or stands twice")
        found[key] = text
    return found


class _Checksum:
    """What ``Upload-Checksum`` says of one body, and the running digest of what came."""

    def __init__(self, header: str | None) -> None:
        algorithm, _, expected = (header or "").partition(" ")
        if header is not None and algorithm not in _ALGORITHMS:
            raise HTTPException(400, f"Upload-Checksum: {algorithm[:80]!r} is not one of {', '.join(_ALGORITHMS)}")
        self.running = None if header is None else hashlib.new(algorithm, usedforsecurity=False)
        self._expected = expected.strip()

    def matches(self) -> bool:
        """True if what came is what was announced, or nothing was."""
        return self.running is None or base64.b64encode(self.running.digest()).decode() == self._expected
