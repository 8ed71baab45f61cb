"""The progress of an optimization as server-sent events, until it ends.

Each event is the whole status, so that one who missed some has lost nothing: ``Last-Event-ID`` names the last status
that was seen, and what is newer is sent. A stream is bounded in time, and streams are bounded in number.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import APIRouter, Header, Request, Response
from fastapi.responses import StreamingResponse
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import State
from starlette.types import Receive, Scope, Send

from flows.api_names import shortened
from flows.api_own import OwnOptimization
from flows.api_platform import Platform, Stack
from registry.errors import TransientError
from registry.records.release import OptimizationStatus

router = APIRouter(tags=["optimizations"])

MEDIA_TYPE = "text/event-stream"
STREAMS_AT_ONCE = 64
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
    status: OwnOptimization, request: Request, platform: Stack, last_event_id: LastEventId = None
) -> Response:
    """Stream the progress of an optimization until it ends."""
    seen = int(last_event_id) if last_event_id is not None else None
    if not status.state.open and seen == _event_id(status):
        return Response(status_code=204)
    return _Stream(request.app.state, _events(platform, status, seen))


class _Stream(StreamingResponse):
    """A stream that counts among those that are open."""

    def __init__(self, state: State, content: AsyncIterator[str]) -> None:
        """Take a place.

        Raises:
            TransientError: there is none.
        """
        state.streams = getattr(state, "streams", 0)
        if state.streams >= STREAMS_AT_ONCE:
            raise TransientError(f"{STREAMS_AT_ONCE} optimizations are watched already; ask for this one's status")
        super().__init__(content, media_type=MEDIA_TYPE, headers=_HEADERS)
        self._state = state
        state.streams += 1

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the events; the place is free again however that ends."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._state.streams -= 1


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
