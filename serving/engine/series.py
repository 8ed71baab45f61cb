"""Which versions have series of their own: those with the most traffic, up to a bound; the others share one.

A counter that goes down reads as a restart, and its whole height as new traffic. So when a version moves between a
series of its own and the shared one, each of the two counts only what happened while the version was in it.
"""

import asyncio
from collections.abc import Iterable
from heapq import heappush, heappushpop
from typing import NamedTuple

from serving.engine.slot import Slot
from serving.engine.version_metrics import Row, read_row

_AT_ONCE = 200
"""Versions that are looked at before other work on the loop gets its turn."""


class Series(NamedTuple):
    """One version's counters, or with no version the sum of those that share a series."""

    slot: Slot | None
    row: Row
    pending: int


class SeriesTable:
    """Remembers from one scrape to the next which version is in which series."""

    def __init__(self, limit: int) -> None:
        """Take how many versions may have series of their own."""
        self._limit = limit
        self._lock = asyncio.Lock()
        self._named: dict[Slot, Row] = {}
        """What of a version's counters stands in the shared series."""
        self._sharing: set[Slot] = set()
        self._kept: Row = []
        """What belongs into the shared series besides the counters of those in it."""

    async def scrape(self, slots: Iterable[Slot]) -> list[Series]:
        """Return a series for each version that did something and has one, and behind them the shared one, if any.

        Args:
            slots: all versions that there are now; those that did nothing cost a look.
        """
        async with self._lock:
            used: set[Slot] = set()
            most: list[tuple[int, int, Slot]] = []
            for position, slot in enumerate(slots):
                if slot.statistics.used:
                    used.add(slot)
                    (heappush if len(most) < self._limit else heappushpop)(most, (_requests(slot), position, slot))
                if position % _AT_ONCE == 0:
                    await asyncio.sleep(0)
            self._assign(used, {slot for _, _, slot in most})
            found = [
                Series(slot, _less(read_row(slot.statistics), shared), _pending(slot))
                for slot, shared in self._named.items()
            ]
            return [*found, await self._shared()] if self._sharing or self._kept else found

    def _assign(self, used: set[Slot], named: set[Slot]) -> None:
        """Say anew which versions have series of their own."""
        sharing = used - named
        for slot in self._sharing - sharing:  # into a series of its own, or gone: what it counted so far stays
            self._kept = _sum(self._kept, read_row(slot.statistics))
        for slot in self._named.keys() & sharing:  # what it counted so far stands in a series already
            self._kept = _less(self._kept, read_row(slot.statistics))
        before, self._named = self._named, {}
        for slot in sorted(named, key=lambda slot: (slot.model, slot.served.version)):
            here = slot in self._sharing
            self._named[slot] = before.get(slot) or (read_row(slot.statistics) if here else [])
        self._sharing = sharing

    async def _shared(self) -> Series:
        row, pending = self._kept, 0
        for position, slot in enumerate(list(self._sharing)):
            row = _sum(row, read_row(slot.statistics))
            pending += _pending(slot)
            if position % _AT_ONCE == 0:
                await asyncio.sleep(0)
        return Series(None, row, pending)


def _requests(slot: Slot) -> int:
    return slot.statistics.success.count + slot.statistics.fail.count


def _pending(slot: Slot) -> int:
    return slot.batcher.waiting if slot.batcher is not None else 0


def _sum(one: Row, other: Row) -> Row:
    return [mine + theirs for mine, theirs in zip(one, other, strict=True)] if one else other


def _less(one: Row, other: Row) -> Row:
    return [mine - theirs for mine, theirs in zip(one or [0] * len(other), other, strict=True)] if other else one
