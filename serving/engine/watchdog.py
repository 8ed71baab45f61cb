"""Watchdog: ends a worker that no longer works, so that BentoML's supervisor starts another in its place.

A worker that can still end in the orderly way does: its readiness falls, the gateway takes it out, what is in flight is
finished, then the process is told to terminate. One that cannot is ended by the fault handler's thread.
"""

import asyncio
import contextlib
import logging
import os
import signal
from collections.abc import Callable

from serving.engine.worker import Worker

BEAT_SECONDS = 0.5
"""How often the loop shows that it turns, and the worker is asked if it is well."""
NOTICE_SECONDS = 3.0
"""Between readiness falling and the end: longer than the gateway's two health checks."""

_log = logging.getLogger(__name__)


def terminate() -> None:
    """Tell this process to end in the orderly way."""
    os.kill(os.getpid(), signal.SIGTERM)


class Watchdog:
    """Watches one worker from its own event loop."""

    def __init__(
        self, worker: Worker, stall_seconds: float, end_seconds: float, end: Callable[[], None] = terminate
    ) -> None:
        """Take the worker, how long its loop may stand still, how long it may take to end, and how it is told to."""
        self._worker = worker
        self._guard = worker.guard
        self._stall_seconds = stall_seconds
        self._end_seconds = end_seconds
        self._end = end
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Watch from now on."""
        self._task = asyncio.create_task(self._watch())

    async def stop(self) -> None:
        """Watch no more: the process is ending, and is ended if that takes too long."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        self._guard.end_after(self._end_seconds)

    async def _watch(self) -> None:
        while (reason := self._worker.recycle_reason) is None:
            await self._beat(BEAT_SECONDS)
        _log.error("this worker is to be replaced: %s", reason)
        self._worker.draining = True
        await self._beat(NOTICE_SECONDS)
        self._end()
        self._guard.end_after(self._end_seconds)

    async def _beat(self, seconds: float) -> None:
        self._guard.end_after(self._stall_seconds + seconds)
        await asyncio.sleep(seconds)
