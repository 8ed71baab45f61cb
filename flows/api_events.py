"""The progress of an optimization as server-sent events, until it ends.

Each event is the whole status, so that one who missed some has lost nothing: ``Last-Event-ID`` names the last status
that was seen, and what is newer is sent. A stream is bounded in time, and streams are bounded in number, those of one
tenant to a part of all.
"""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Annotated, Any

from fastapi import APIRouter, Header, HTTPException, Request, Response
from fastapi.responses import StreamingResponse
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import State
from starlette.types import Receive, Scope, Send

from flows.api_auth import Who
from flows.api_names import shortened
from flows.api_own import OwnOptimization
from flows.api_platform import Platform, Stack
from flows.api_problems import RETRY_AFTER_S
from registry.errors import TransientError
from registry.records.release import OptimizationStatus

router = APIRouter(tags=["optimizations"])

MEDIA_TYPE = "text/event-stream"
STREAMS_AT_ONCE = 64
STREAMS_OF_ONE_TENANT = STREAMS_AT_ONCE // 4
LOOK_S = 0.5
HEARTBEAT_S = 15.0
LONGEST_S = 600.0
RETRY_MS = 1000

_HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
_FIELDS = {"event": {"enum": ["progress", "end"]}, "id": {"type": "string"}, "data": {"type": "string"}}
_SHOWN = {"schema": {"type": "object", "description": "One event; its data is the status.", "properties": _FIELDS}}
_DESCRIBED: dict[int | str, dict[str, Any]] = {
    200: {"description": "Events `progress`, and `end` as the last.", "content": {MEDIA_TYPE: _SHOWN}},
    204: {"description": "The end was seen already; there is nothing to come back for."},
}

LastEventId = Annotated[
    str | None, Header(pattern=r"^[0-9]{1,20}$", description="`id` of the last event that was received.")
]


@router.get(
    "/optimizations/{optimization_id}/events",
    response_class=StreamingResponse,
    responses=_DESCRIBED,
)
async def events(
    status: OwnOptimization, request: Request, platform: Stack, who: Who, last_event_id: LastEventId = None
) -> Response:
    """Stream the progress of an optimization until it ends."""
    seen = int(last_event_id) if last_event_id is not None else None
    if not status.state.open and seen == _event_id(status):
        return Response(status_code=204)
    return _Stream(request.app.state, who.tenant, _events(platform, status, seen))


class _Stream(StreamingResponse):
    """A stream that counts among those that are open, from its first byte to its end."""

    def __init__(self, state: State, tenant: str, content: AsyncIterator[str]) -> None:
        super().__init__(content, media_type=MEDIA_TYPE, headers=_HEADERS)
        self._state = state
        self._tenant = tenant

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the events."""
        with _place(self._state, self._tenant):
            await super().__call__(scope, receive, send)


@contextmanager
def _place(state: State, tenant: str) -> Iterator[None]:
    """Hold a place among the open streams; it is free again however the stream ends.

    Raises:
        HTTPException: 429, the tenant has its part of them.
        TransientError: there is none.
    """
    state.streams = getattr(state, "streams", Counter[str]())
    if state.streams[tenant] >= STREAMS_OF_ONE_TENANT:
        told = (
            f"this tenant watches {STREAMS_OF_ONE_TENANT} optimizations already; end one, or ask for this one's status"
        )
        raise HTTPException(429, told, {"Retry-After": str(RETRY_AFTER_S)})
    if state.streams.total() >= STREAMS_AT_ONCE:
        raise TransientError(f"{STREAMS_AT_ONCE} optimizations are watched already; ask for this one's status")
    state.streams[tenant] += 1
    try:
        yield
    finally:
        state.streams -= Counter((tenant,))


async def _events(platform: Platform, status: OptimizationStatus, seen: int | None) -> AsyncIterator[str]:
    """Tell each new status; a comment keeps the connection open where there is no news."""
    yield f"retry: {RETRY_MS}\n\n"
    started = told = time.monotonic()
    while True:
        if _event_id(status) != seen:
            seen, told = _event_id(status), time.monotonic()
            yield _event(status)
        if not status.state.open or time.monotonic() - started > LONGEST_S:
            return
        if time.monotonic() - told > HEARTBEAT_S:
            told = time.monotonic()
            yield ": nothing new\n\n"
        await asyncio.sleep(LOOK_S)
        status = await run_in_threadpool(platform.ledger.optimization, status.id)


def _event(status: OptimizationStatus) -> str:
    kind = "progress" if status.state.open else "end"
    return f"event: {kind}\nid: {_event_id(status)}\ndata: {shortened(status).model_dump_json()}\n\n"


def _event_id(status: OptimizationStatus) -> int:
    """Microseconds: every change of a status has a later one."""
    return round(status.updated_at.timestamp() * 1_000_000)
