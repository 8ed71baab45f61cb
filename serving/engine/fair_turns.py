"""Whose turn it is: what tenants compete for is shared by what each has had of it (start-time fair queueing).

The first that waits of the tenant that had least goes next. A tenant that comes back begins level with the others: with
no claim to what it left to them, so whoever floods only lengthens its own line, and a newcomer waits for no more than
one turn of each other tenant. Amounts are of what is shared, such as seconds of a thread.

Source: P. Goyal, H. Vin, H. Cheng, "Start-time fair queuing", SIGCOMM 1996.
"""

import asyncio
import heapq
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import count
from typing import Generic, TypeVar

T = TypeVar("T")

Tenant = str | None
"""None: the operator, whose requests do not come through the gateway."""

_REMEMBERED = 64
"""Tenants that nothing waits of and whose account is kept for all that; it says little."""


@dataclass(slots=True)
class _Line(Generic[T]):
    """What waits of one tenant, and what it had."""

    had: float = 0.0
    level: float = 0.0
    """The rank of what went last."""
    waiting: list[tuple[float, int, T]] = field(default_factory=list)


class FairTurns(Generic[T]):
    """What waits, by tenant, and within a tenant by rank and order of arrival."""

    def __init__(self) -> None:
        """Start with nobody."""
        self._lines: dict[Tenant, _Line[T]] = {}
        self._waiting: dict[Tenant, _Line[T]] = {}
        """Those with somebody in them."""
        self._order = count()
        self._virtual = 0.0
        """What the tenant had that went last; when nobody waited, the most that any had: all begin level."""
        self._most = 0.0

    def __len__(self) -> int:
        """How many wait."""
        return sum(len(line.waiting) for line in self._waiting.values())

    def waits(self, tenant: Tenant) -> bool:
        """True if something of a tenant waits."""
        return tenant in self._waiting

    def level(self, tenant: Tenant) -> float:
        """The rank of what went last of a tenant."""
        line = self._lines.get(tenant)
        return line.level if line is not None else 0.0

    def ask(self, tenant: Tenant, item: T, rank: float = 0.0) -> None:
        """Let something wait; of one tenant, the lower rank goes first."""
        line = self._waiting.get(tenant)
        if line is None:
            if not self._waiting:
                self._virtual = max(self._virtual, self._most)
            line = self._waiting[tenant] = self._line(tenant)
            line.had = max(line.had, self._virtual)
        heapq.heappush(line.waiting, (rank, next(self._order), item))

    def take(self, may: Callable[[T], bool] = lambda _: True) -> tuple[Tenant, T] | None:
        """Take what goes next among those that may; None if there is nothing."""
        for tenant in sorted(self._waiting, key=lambda tenant: self._waiting[tenant].had):
            line = self._waiting[tenant]
            found = _first(line, may)
            if found is None:
                continue
            if not line.waiting:
                del self._waiting[tenant]
            self._virtual = max(self._virtual, line.had)
            line.level = max(line.level, found[0])
            return tenant, found[2]
        return None

    def charge(self, tenant: Tenant, amount: float) -> None:
        """Count what a tenant had; less than nothing corrects what was charged too much."""
        line = self._line(tenant)
        line.had += amount
        self._most = max(self._most, line.had)

    def _line(self, tenant: Tenant) -> _Line[T]:
        line = self._lines.get(tenant)
        if line is None:
            if len(self._lines) > len(self._waiting) + _REMEMBERED:
                self._forget()
            line = self._lines[tenant] = _Line(self._virtual)
        return line

    def _forget(self) -> None:
        """Forget tenants that would begin anew all the same."""
        self._lines = {
            tenant: line for tenant, line in self._lines.items() if tenant in self._waiting or line.had > self._virtual
        }


class FairGate:
    """Lets so many in at a time, in fair turns between tenants; all methods are called on the event loop."""

    def __init__(self, places: int) -> None:
        """Take how many may be in."""
        self._free = places
        self._turns = FairTurns[asyncio.Future[None]]()

    @asynccontextmanager
    async def turn(self, tenant: Tenant) -> AsyncIterator[None]:
        """Wait for a place, and keep it; the time inside counts as had by the tenant."""
        given = asyncio.get_running_loop().create_future()
        self._turns.ask(tenant, given)
        self._let_in()
        started = None
        try:
            await given
            started = time.perf_counter()
            yield
        finally:
            if given.done() and not given.cancelled():
                self._free += 1
                self._turns.charge(tenant, time.perf_counter() - started if started is not None else 0.0)
            given.cancel()
            self._let_in()

    def _let_in(self) -> None:
        while self._free and (taken := self._turns.take()) is not None:
            if not taken[1].done():
                self._free -= 1
                taken[1].set_result(None)


def _first(line: _Line[T], may: Callable[[T], bool]) -> tuple[float, int, T] | None:
    passed, found = [], None
    while line.waiting and found is None:
        entry = heapq.heappop(line.waiting)
        if may(entry[2]):
            found = entry
        else:
            passed.append(entry)
    for entry in passed:
        heapq.heappush(line.waiting, entry)
    return found
