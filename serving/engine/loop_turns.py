"""The event loop between tenants: who floods waits for turns, and whoever does not is worked on at once.

While one tenant alone asks, nothing is counted. With others beside it, each may have the loop for a moment in every
round of it; what it asks beyond that waits, and is worked on in fair turns, a few milliseconds in each round. So a
request of a quiet tenant waits for a round, not for all that another one has sent.
"""

import asyncio
import time
from collections.abc import Callable
from contextvars import copy_context
from functools import partial
from typing import Any, Final, TypeVar

from serving.engine.backlog import Backlog
from serving.engine.fair_turns import FairTurns, Tenant

T = TypeVar("T")

AT_ONCE_NS = 1_000_000
"""What a tenant may have in a round without waiting."""
ROUND_NS = 2_000_000
"""What is given in a round to all that waits."""
ALONE_SECONDS = 1.0
"""A tenant is alone again when no other one has asked for so long."""

_NOBODY: Final = object()


class LoopTurns:
    """Shares one worker's event loop; all methods are called on it."""

    def __init__(self, backlog: Backlog) -> None:
        """Take what bounds those that wait."""
        self.alone: object = _NOBODY
        """The only tenant that has asked of late, who needs no turns."""
        self._backlog = backlog
        self._turns = FairTurns[Callable[[], None]]()
        self._asked: set[Tenant] = set()
        """Since it was last looked who is alone."""
        self._watched = False
        self._used: dict[Tenant, int] = {}
        """Nanoseconds in this round."""
        self._current: Tenant = None
        self._since_ns = 0
        """When the loop began to work for the current tenant; 0: it does not."""
        self._round: asyncio.Handle | None = None

    def may_go(self, tenant: Tenant) -> bool:
        """True if a request that has come may be worked on at once; else it is to wait for its turn.

        The time until the next one comes, or the round is over, counts as the tenant's.
        """
        self.alone = _NOBODY
        self._asked.add(tenant)
        if not self._watched:
            self._watch()
        self._count()
        if self._turns.waits(tenant) or self._used.get(tenant, 0) >= AT_ONCE_NS:
            return False
        self._current, self._since_ns = tenant, time.perf_counter_ns()
        self._begin_round()
        return True

    async def in_turn(self, tenant: Tenant, size: int, work: Callable[[], T]) -> T:
        """Do some work of a tenant on the loop when it is its turn, holding so many bytes until then.

        Raises:
            TransientError: what waits holds as much as it may.
        """
        done = asyncio.get_running_loop().create_future()
        held = self._backlog.enter_bytes(size, tenant)
        try:
            self._turns.ask(tenant, partial(_do, done, partial(copy_context().run, work)))
            self._begin_round()
            result: T = await done
            return result
        finally:
            self._backlog.leave(held, tenant)

    def _watch(self) -> None:
        self._watched = True
        asyncio.get_running_loop().call_later(ALONE_SECONDS, self._look)

    def _look(self) -> None:
        """See who has asked of late: one who is alone needs no turns."""
        asked, self._asked, self._watched = self._asked, set(), False
        if len(asked) == 1 and not len(self._turns):
            (self.alone,) = asked
        elif asked:
            self._watch()

    def _begin_round(self) -> None:
        if self._round is None:
            self._round = asyncio.get_running_loop().call_soon(self._next_round)

    def _next_round(self) -> None:
        """Work on what waits for a while, then let the loop look for what has come."""
        self._count()
        self._used.clear()
        self._round = None
        begun = now = time.perf_counter_ns()
        while now - begun < ROUND_NS and (taken := self._turns.take()) is not None:
            tenant, work = taken
            work()
            before, now = now, time.perf_counter_ns()
            self._turns.charge(tenant, now - before)
        if len(self._turns):
            self._begin_round()

    def _count(self) -> None:
        """The current tenant's work is over."""
        if self._since_ns:
            took = time.perf_counter_ns() - self._since_ns
            self._used[self._current] = self._used.get(self._current, 0) + took
            self._turns.charge(self._current, took)
            self._since_ns = 0


def _do(done: asyncio.Future[Any], work: Callable[[], Any]) -> None:
    if done.done():  # whoever asked has gone
        return
    try:
        done.set_result(work())
    except Exception as error:  # noqa: BLE001 - whoever waits raises it
        done.set_exception(error)
