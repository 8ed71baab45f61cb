"""Upkeep: gives freed memory back, keeps what is used, and says when the worker has leaked too much to go on."""

import asyncio
import logging
import time
from collections.abc import Callable

from serving.engine.budget import MEMORY
from serving.engine.live import Live
from serving.engine.room import Room
from serving.engine.usage import Usage

LOOK_SECONDS = 1.0
GIVE_BACK_SECONDS = 10.0
KEEP_SECONDS = 60.0
_SLACK = 0.02
_LOOKS = 3
_MIB = 2**20
_log = logging.getLogger(__name__)


class Upkeep:
    """What one worker looks after while it serves."""

    def __init__(self, room: Room, usage: Usage, live: Live, in_use: Callable[[], int], leak_mib: int) -> None:
        """Take what is loaded, the account of uses, and what is live.

        Args:
            room: what is loaded.
            usage: the account of uses.
            live: what is live.
            in_use: bytes that requests and answers hold now, which are no leak.
            leak_mib: how much memory may be held by nothing loaded, besides those.
        """
        self.recycle_reason: str | None = None
        """Why the worker should be replaced; None while it need not be."""
        self._room = room
        self._usage = usage
        self._live = live
        self._in_use = in_use
        self._leak_bytes = leak_mib * _MIB
        self._leaking = 0
        self._gave_back = self._kept = time.monotonic()

    async def run(self) -> None:
        """Look again and again, until cancelled."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            await self.look()

    async def look(self) -> None:
        """Do what is due."""
        await self._look_at_memory()
        self._room.evict_beyond_quotas()  # what requests held when a quota fell, or cost more than was expected
        if time.monotonic() - self._kept >= KEEP_SECONDS:
            self._kept = time.monotonic()
            await self._usage.keep(self._live)

    async def _look_at_memory(self) -> None:
        budget = self._room.budget
        tight = budget.observe()
        held = self._held_by_nothing()
        slack = held > _SLACK * budget.bounds[MEMORY]
        if held > self._leak_bytes or ((slack or tight) and time.monotonic() - self._gave_back >= GIVE_BACK_SECONDS):
            self._gave_back = time.monotonic()
            await self._room.relieve()
            held = self._held_by_nothing()
        self._leaking = self._leaking + 1 if held > self._leak_bytes else 0
        if self._leaking >= _LOOKS and self.recycle_reason is None:
            leaked, bound = held / _MIB, self._leak_bytes / _MIB
            self.recycle_reason = f"{leaked:.0f} MiB are held that nothing accounts for; {bound:.0f} are allowed"
            _log.warning("this worker should be replaced: %s", self.recycle_reason)

    def _held_by_nothing(self) -> int:
        return self._room.budget.unaccounted_bytes - self._in_use()
