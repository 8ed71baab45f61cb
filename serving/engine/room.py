"""Room: what is loaded, in order of use, and what of it goes so that the budget is kept."""

import asyncio
import time
from collections.abc import Collection, Iterator, Mapping
from typing import NamedTuple

from registry.errors import TransientError
from serving.engine.budget import MEMORY, Amounts, Budget, Cost, at_least, is_large, minus, plus
from serving.engine.loader import Loader, Opened
from serving.engine.recency import Recency
from serving.engine.slot import Slot
from serving.engine.tenant_shares import TenantShares

WAIT_SECONDS = 5.0
"""How long a load waits until requests let go of what must be unloaded for it."""

_RELIEF_SECONDS = 1.0
_OBSERVED_SHARE = 0.01
"""After so much of the budget was loaded, the process is measured again."""

_MIB = 2**20


class Claim(NamedTuple):
    """Room that was made for a load: what is to be closed first, and what is reserved until it is over."""

    first: list[Opened]
    reserved: Amounts
    tenant: str
    wanted: int
    """Bytes that count as the tenant's meanwhile."""


class Room:
    """The loaded versions of one worker under its budget; all methods are called on the event loop."""

    def __init__(self, budget: Budget, loader: Loader) -> None:
        """Take the account, and who closes sessions."""
        self.budget = budget
        self.shares = TenantShares()
        self.evictions = 0
        """Versions that were unloaded to make room."""
        self._loader = loader
        self._resident: dict[Slot, Cost] = {}
        self._order = Recency()
        self._pinned: set[Slot] = set()
        self._closing: set[asyncio.Task[None]] = set()
        self._going = self.nothing
        """What is being closed holds still."""
        self._relief: asyncio.Task[None] | None = None
        self._relieved = 0.0
        self._unobserved = 0
        self._let_go = asyncio.Event()

    def __len__(self) -> int:
        """How many versions are loaded."""
        return len(self._resident)

    def touch(self, slot: Slot) -> None:
        """Count a use of a loaded version."""
        self._order.touch(slot)

    def demote(self, slot: Slot) -> None:
        """Let a version be the first to go."""
        if slot in self._resident:
            self._order.demote(slot)

    def has(self, wanted: Amounts) -> bool:
        """True if a version fits and nothing need go for it."""
        return not self.budget.lacks(wanted, self.nothing)

    def let_go(self) -> None:
        """Tell loads that wait that something may be unloaded now."""
        self._let_go.set()

    def pin(self, slot: Slot) -> None:
        """Never evict a version from now on."""
        self._pinned.add(slot)

    def unpin(self, slot: Slot) -> None:
        """Let a version be evicted."""
        self._pinned.discard(slot)

    def check_fits(self, wanted: Amounts) -> None:
        """Check that a version can be held beside the pinned ones.

        Raises:
            TransientError: it cannot, whatever else is unloaded.
        """
        pinned = self._sum(self._pinned & self._resident.keys())
        reason = self.budget.never_fits(wanted, pinned)
        if reason:
            raise TransientError(reason)

    async def make(self, slot: Slot, wanted: Amounts) -> Claim:
        """Take out what must go for a load, oldest use first, and wait within a bound for what requests hold.

        What goes for a large version is closed at once, so that the process can be measured without it.

        Raises:
            TransientError: there is no room.
        """
        self.check_fits(wanted)
        self.shares.check_fits(slot.tenant, wanted[MEMORY])
        deadline = asyncio.get_running_loop().time() + WAIT_SECONDS
        taken: list[Opened] = []
        freed, large = self.nothing, is_large(slot.served)

        def full() -> bool:
            # What is being closed for nobody's sake is closed before this load begins: nothing more goes in its place.
            return self._at_quota(slot, wanted) or self.budget.lacks(wanted, plus(freed, self._going))

        try:
            while full() or (large and (await self._crowded(wanted) or full())):  # others load while memory goes back
                own = self._at_quota(slot, wanted)
                victim = next(self._evictable(slot.tenant if own else None), None)
                if victim is None:
                    await self._somebody_lets_go(deadline)
                    continue
                self.evictions += 1
                if large:
                    await self.unload(victim)
                else:
                    taken.append(self._take_out(victim))
                    freed = plus(freed, taken[-1].cost.held)
        except BaseException:
            for leaving in taken:
                self._close_later(leaving)
            raise
        reserved = at_least(wanted, freed)
        self.budget.reserve(minus(reserved, freed))
        self.shares.charge(slot.tenant, wanted[MEMORY])
        return Claim(taken, reserved, slot.tenant, wanted[MEMORY])

    def fill(self, slot: Slot, opened: Opened) -> None:
        """Take in a version that was loaded, and correct the account by what the process holds now."""
        slot.batcher = opened.batcher
        self._resident[slot] = opened.cost
        self._order.add(slot)
        self.budget.charge(opened.cost.held)
        self.shares.charge(slot.tenant, opened.cost.held[MEMORY])
        self._unobserved += opened.cost.held[MEMORY]
        if self._unobserved >= _OBSERVED_SHARE * self.budget.bounds[MEMORY]:
            self._observe()
        self._evict_surplus()

    def settle(self, claim: Claim) -> None:
        """Give back what was reserved for a load that is over."""
        self.budget.settle(claim.reserved)
        self.shares.charge(claim.tenant, -claim.wanted)
        self._let_go.set()

    def unload(self, slot: Slot) -> asyncio.Task[None]:
        """Take a version out at once, and close it when its last run is over."""
        return self._close_later(self._take_out(slot))

    async def relieve(self) -> None:
        """Give freed memory back to the system; evict where the process holds too much even so."""
        self._relieved = time.monotonic()
        try:
            await self._loader.give_back()
        finally:
            self._relief = None
        self.budget.observe()
        self._evict_surplus()

    async def clear(self) -> None:
        """Unload everything, pinned or not."""
        for slot in list(self._resident):
            self.unload(slot)
        if self._relief is not None:
            await self._relief
        while self._closing:
            await asyncio.wait(self._closing)

    @property
    def nothing(self) -> Amounts:
        """No amount of anything."""
        return (0,) * len(self.budget.bounds)

    def _observe(self) -> None:
        self._unobserved = 0
        if self.budget.observe() and time.monotonic() - self._relieved > _RELIEF_SECONDS and self._relief is None:
            self._relief = asyncio.create_task(self.relieve())

    def limit_tenants(self, limits: Mapping[str, int]) -> None:
        """Take what each tenant's versions may hold, in bytes, and evict what is beyond."""
        self.shares.limit(limits)
        self._evict_surplus()

    def _evictable(self, tenant: str | None = None) -> Iterator[Slot]:
        """Yield what may go: of one tenant, or of all, first of those that hold more than they may."""
        free = (slot for slot in self._order if slot.holders == 0 and slot not in self._pinned)
        if tenant is not None:
            return (slot for slot in free if slot.tenant == tenant)
        over = self.shares.over()
        return iter(sorted(free, key=lambda slot: slot.tenant not in over)) if over else free

    def evict_beyond_quotas(self) -> None:
        """Evict what tenants hold beyond what they may and no request holds."""
        for tenant in self.shares.over():
            while self.shares.beyond(tenant) and (slot := next(self._evictable(tenant), None)) is not None:
                self.evictions += 1
                self.unload(slot)

    def _evict_surplus(self) -> None:
        self.evict_beyond_quotas()
        while self.budget.lacks(self.nothing, self._going):
            slot = next(self._evictable(), None)
            if slot is None:
                return
            self.evictions += 1
            self.unload(slot)

    def _take_out(self, slot: Slot) -> Opened:
        """Take a version from its slot; what it holds is reserved until it is closed."""
        batcher, cost = slot.batcher, self._resident.pop(slot)
        self._order.remove(slot)
        assert batcher is not None
        slot.batcher = None
        self.budget.refund(cost.held)
        self.shares.charge(slot.tenant, -cost.held[MEMORY])
        self.budget.reserve(cost.held)
        return Opened(batcher, cost)

    def _close_later(self, leaving: Opened) -> asyncio.Task[None]:
        self._going = plus(self._going, leaving.cost.held)
        task = asyncio.create_task(self._close(leaving))
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)
        return task

    async def _close(self, leaving: Opened) -> None:
        await self._loader.close(leaving)
        self.budget.settle(leaving.cost.held)
        self._going = minus(self._going, leaving.cost.held)
        self._let_go.set()

    def _at_quota(self, slot: Slot, wanted: Amounts) -> bool:
        return self.shares.beyond(slot.tenant, wanted[MEMORY])

    async def _crowded(self, wanted: Amounts) -> bool:
        """True if the process would go over its bound by a load, also after freed memory went back."""
        if self.budget.crowded(wanted):
            await self._loader.give_back()
        return self.budget.crowded(wanted)

    async def _somebody_lets_go(self, deadline: float) -> None:
        if not (self._resident.keys() - self._pinned or self._closing or any(self.budget.reserved)):
            pinned = self._sum(self._resident)[MEMORY] / _MIB
            held = self.budget.process_bytes / _MIB
            raise TransientError(f"there is no room: {pinned:.0f} MiB are pinned, and the worker holds {held:.0f} MiB")
        self._let_go.clear()
        try:
            async with asyncio.timeout_at(deadline):
                await self._let_go.wait()
        except TimeoutError as error:
            raise TransientError("there is no room: requests hold all that is loaded; try again shortly") from error

    def _sum(self, slots: Collection[Slot]) -> Amounts:
        total = self.nothing
        for slot in slots:
            total = plus(total, self._resident[slot].held)
        return total
