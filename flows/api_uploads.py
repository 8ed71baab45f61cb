"""Uploads in one request: the raw body, streamed to disk, checked, kept by content in the artifact store."""

import hashlib
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated
from uuid import uuid4

from fastapi import APIRouter, Header, Request
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect

from flows.api_auth import Who
from flows.api_bodies import Uploaded
from flows.api_platform import Stack
from flows.settings import StackSettings
from flows.upload_intake import keep, receive, require_space, uploads_folder
from registry.errors import InputError
from registry.records.base import Digest
from registry.uploads.admission import UploadName

router = APIRouter(tags=["artifacts"])

_RAW_BODY = {
    "requestBody": {
        "required": True,
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
    }
}


@router.put("/artifacts/{filename}", openapi_extra=_RAW_BODY)
async def upload(
    filename: UploadName,
    request: Request,
    platform: Stack,
    who: Who,
    x_content_sha256: Annotated[Digest | None, Header(description="Refuse the upload if its bytes differ.")] = None,
) -> Uploaded:
    """Store one file, the raw body, and return the digest that names it from now on; `/v1/uploads` can be resumed."""
    settings = platform.settings
    await run_in_threadpool(require_space, platform, who, int(request.headers.get("content-length", 0)))
    with _workspace(settings) as folder:
        file, digest = folder / filename.value, hashlib.sha256()
        try:
            await receive(
                request, file, most=settings.upload_max_bytes, idle_s=settings.upload_idle_seconds, digest=digest
            )
        except ClientDisconnect as error:
            raise InputError(f"the upload of {filename.value} was cut off") from error
        if not file.stat().st_size:
            raise InputError(f"the upload of {filename.value} is empty; send the file as the request's body")
        stored = await run_in_threadpool(
            keep, platform, who, file, filename, sha256=digest.hexdigest(), expected=x_content_sha256
        )
        return Uploaded(digest=stored)


@contextmanager
def _workspace(settings: StackSettings) -> Iterator[Path]:
    folder = uploads_folder(settings) / uuid4().hex
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)
