"""A tenant's request log: the lines of the gateway's access log that are the tenant's own, newest first.

The log is read from its end, one window at a time, so a page costs the same however long the log is. A page may hold
fewer lines than were asked for, and still have a next one.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fastapi import APIRouter
from pydantic import JsonValue

from flows import api_pages
from flows.api_auth import Who, needs
from flows.api_pages import DEFAULT_LIMIT, Cursor, Limit, Next
from flows.api_platform import Stack
from registry.errors import InputError
from registry.records.base import Record
from registry.records.tenant import Scope

router = APIRouter(tags=["usage"])

WINDOW_BYTES = 4 * 2**20
_KEPT_BACK = ("tenant", "worker")
"""Fields of a line that are not told: the tenant's own name, and an address inside the platform."""


class LogPage(Record):
    """Requests as the gateway saw them, newest first: time, model, path, status, duration, bytes, request id."""

    lines: tuple[dict[str, JsonValue], ...]
    next: Next


@router.get("/logs", dependencies=[needs(Scope.DEPLOY, Scope.ADMIN)])
def logs(platform: Stack, who: Who, limit: Limit = DEFAULT_LIMIT, cursor: Cursor = None) -> LogPage:
    """List a tenant's requests at the gateway since it started, newest first; without a key that holds, none is."""
    log = platform.settings.access_log
    try:
        stat = log.stat()
    except FileNotFoundError:
        return LogPage(lines=(), next=None)
    file, end = api_pages.after(cursor, (api_pages.word, _offset), "logs") or (str(stat.st_ino), stat.st_size)
    if file != str(stat.st_ino) or end > stat.st_size:
        raise InputError("cursor: the log of the gateway was set aside since then; begin without a cursor")
    lines, place = [], end
    for begin, line in _before(log, end):
        place = begin
        if (own := _own(line, who.tenant)) is not None:
            lines.append(own)
            if len(lines) == limit:
                break
    return LogPage(lines=tuple(lines), next=api_pages.following((file, place), "logs") if place else None)


def _before(log: Path, end: int) -> Iterator[tuple[int, bytes]]:
    """Yield the whole lines of the window that ends at an offset, newest first, each with where it begins."""
    start = max(0, end - WINDOW_BYTES)
    with log.open("rb") as stream:
        stream.seek(start)
        window = stream.read(end - start)
    lines = window.splitlines(keepends=True)
    if start and len(lines) > 1:
        lines.pop(0)  # begins before the window
    for line in reversed(lines):
        end -= len(line)
        yield end, line


def _own(line: bytes, tenant: str) -> dict[str, JsonValue] | None:
    if tenant.encode() not in line:
        return None
    try:
        found = json.loads(line)
    except ValueError:  # the end of what is being written now, or of what a killed Envoy wrote
        return None
    if not isinstance(found, dict) or found.get("tenant") != tenant:
        return None
    return {name: value for name, value in found.items() if name not in _KEPT_BACK}


def _offset(part: Any) -> int:  # noqa: ANN401
    if not isinstance(part, int) or part < 0:
        raise ValueError("not an offset")
    return part
