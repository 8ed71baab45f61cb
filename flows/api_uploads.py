"""Uploads: one file each, streamed to disk with its sha256, then kept by content in the artifact store."""

import hashlib
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated
from uuid import uuid4

import anyio
from fastapi import APIRouter, Header, Request
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from flows.api_bodies import Uploaded
from flows.api_platform import Platform, Stack
from flows.settings import StackSettings
from registry.errors import InputError
from registry.records.base import Digest

router = APIRouter(tags=["artifacts"])


class UploadName(StrEnum):
    """The files that may be uploaded; the name says what a file is."""

    EXPORTED_PROGRAM = "model.pt2"
    ONNX = "model.onnx"
    EVALUATION_NPZ = "evaluation.npz"
    EVALUATION_PARQUET = "evaluation.parquet"
    CALIBRATION_NPZ = "calibration.npz"
    CALIBRATION_PARQUET = "calibration.parquet"


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
    x_content_sha256: Annotated[Digest | None, Header(description="Refuse the upload if its bytes differ.")] = None,
) -> Uploaded:
    """Store one file, the raw body, and return the digest that names it from now on."""
    with _workspace(platform.settings) as folder:
        sha256 = await _receive(request, folder / filename.value, platform)
        if x_content_sha256 not in (None, sha256):
            raise InputError(f"{filename.value} arrived with sha256 {sha256}, not {x_content_sha256}; send it again")
        return Uploaded(digest=await run_in_threadpool(platform.artifacts.put, folder))


def sweep(settings: StackSettings) -> None:
    """Remove what uploads left that were cut off with the process that received them."""
    shutil.rmtree(_uploads(settings), ignore_errors=True)


def _uploads(settings: StackSettings) -> Path:
    return settings.work_folder / "uploads"


@contextmanager
def _workspace(settings: StackSettings) -> Iterator[Path]:
    folder = _uploads(settings) / uuid4().hex
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


async def _receive(request: Request, target: Path, platform: Platform) -> str:
    """Write the body to a file and return its sha256.

    Raises:
        InputError: the body is empty or was cut off.
        HTTPException: 413, the body is larger than the bound.
    """
    bound = platform.max_upload_bytes
    if int(request.headers.get("content-length", 0)) > bound:
        raise _too_large(bound)
    digest, size = hashlib.sha256(), 0
    try:
        async with await anyio.open_file(target, "wb") as stream:
            async for chunk in request.stream():
                size += len(chunk)
                if size > bound:
                    raise _too_large(bound)
                digest.update(chunk)
                await stream.write(chunk)
    except ClientDisconnect as error:
        raise InputError(f"the upload of {target.name} was cut off after {size} bytes") from error
    if not size:
        raise InputError(f"the upload of {target.name} is empty; send the file as the request's body")
    return digest.hexdigest()


def _too_large(bound: int) -> HTTPException:
    return HTTPException(413, f"an upload may have at most {bound} bytes")
