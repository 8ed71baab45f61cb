"""Residency: versions are loaded on first use, one load for all who wait, and stay while the budget has room."""

import asyncio
import logging
import time
from collections import defaultdict
from dataclasses import dataclass
from itertools import chain

from registry.errors import BurnishError, QueueFull, TransientError
from registry.records.model import ServedVersion
from registry.store.base import ArtifactStore
from serving.engine.account import Account
from serving.engine.batcher import Batcher, Contain
from serving.engine.budget import MEMORY, Amounts, Budget, Cost, is_large, slack_bytes
from serving.engine.fair_turns import FairGate
from serving.engine.flight_record import Around
from serving.engine.loader import Guards, Loader
from serving.engine.meter import DeviceMemory, Meter, NoDevices
from serving.engine.room import Room
from serving.engine.runs import RunThreads
from serving.engine.slot import Slot
from serving.engine.statistics import Histogram, Statistics
from serving.memory import resident_set_bytes

RETRY_SECONDS = 5.0
"""A version that could not be loaded is not tried again before this time."""

_MIB = 2**20
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ResidencyLimits:
    """What one worker may hold."""

    resident_mib: int
    """Of memory, measured, over what the process holds with nothing loaded."""
    max_waiting: int
    """Requests that may wait before one session."""
    threads: int = 256
    """Threads of all loaded sessions together."""
    gpu_bytes: tuple[int, ...] = ()
    """On each device."""

    @property
    def bounds(self) -> Amounts:
        """What loaded versions may take."""
        return (self.resident_mib * _MIB - self.slack_bytes, self.threads, *self.gpu_bytes)

    @property
    def slack_bytes(self) -> int:
        """What of the memory no version may take."""
        return slack_bytes(self.resident_mib * _MIB)


class Residency:
    """Every slot of this worker; all methods are called on the event loop, loading happens beside it."""

    def __init__(
        self,
        store: ArtifactStore,
        limits: ResidencyLimits,
        contain: Contain,
        runs: RunThreads,
        around: Around | None = None,
        devices: DeviceMemory | None = None,
    ) -> None:
        """Take the store, the limits, a guard of what may fail, threads of slower runs, sessions' guards, and GPUs."""
        budget = Budget(limits.bounds, resident_set_bytes, limits.slack_bytes)
        guards = Guards(contain, around or (lambda _digest, *, loading: contain))
        self._max_waiting = limits.max_waiting
        self._loader = Loader(store, guards, runs, Meter(budget, devices or NoDevices()), limits.max_waiting)
        self.room = Room(budget, self._loader)
        self._slots: dict[str, list[Slot]] = {}
        """By model."""
        self.accounts: defaultdict[str, Account] = defaultdict(Account)
        """By model; one that is gone keeps what it counted."""
        self._large_turn = FairGate(1)
        self._unknown_turn = FairGate(1)
        """Of loads that nobody knows the cost of: a guess bounds one of them, and what it has cost the others."""
        self.loads = Histogram()
        """Loads that ended well: room made, bytes checked, session built, warmed up and timed."""
        self.failed_loads = 0

    @property
    def resident_bytes(self) -> int:
        """Measured bytes of all loaded versions."""
        return self.room.budget.held[MEMORY]

    @property
    def resident_versions(self) -> int:
        """How many versions are loaded."""
        return len(self.room)

    @property
    def evictions(self) -> int:
        """Versions that were unloaded to keep the budget."""
        return self.room.evictions

    @property
    def budget_bytes(self) -> int:
        """What the process may hold, measured, for all loaded versions."""
        return self.room.budget.process_bound

    def slot(self, model: str, served: ServedVersion) -> Slot:
        """Return the one slot of a version."""
        slots = self._slots.setdefault(model, [])
        slot = next((one for one in slots if one.served == served), None)
        if slot is None:
            slot = Slot(model, served, statistics=Statistics(account=self.accounts[model]))
            slots.append(slot)
        return slot

    def pin(self, slot: Slot, pinned: bool) -> None:
        """Say whether a version must stay once it is loaded."""
        if pinned:
            self.room.pin(slot)
        else:
            self.room.unpin(slot)

    def check_room(self, slot: Slot) -> None:
        """Check that not as many requests as may wait for a version wait for it to be loaded already.

        Raises:
            QueueFull: they do.
        """
        if slot.batcher is None and slot.holders > (slot.policy.max_waiting or self._max_waiting):
            raise QueueFull(f"{slot.holders - 1} requests wait for {slot} to be loaded; try again shortly")

    def loaded(self, slot: Slot) -> Batcher | None:
        """Return what a version runs on, for a run that ends before anything else happens; None if it is not loaded."""
        if slot.batcher is not None:
            self.room.touch(slot)
        return slot.batcher

    async def hold(self, slot: Slot) -> Batcher:
        """Keep a version loaded until ``release``; load it first if it is not. One load serves all who wait.

        Raises:
            TransientError: it cannot be loaded now; the message says why.
        """
        slot.holders += 1
        batcher = self.loaded(slot)
        if batcher is not None:
            return batcher
        try:
            return await self._loaded(slot)
        except BaseException:
            self.release(slot)
            raise

    def release(self, slot: Slot) -> None:
        """Give back what ``hold`` gave."""
        slot.holders -= 1
        if slot.holders == 0:
            self.room.let_go()
            if slot.retired:
                self._unload(slot)

    def retire(self, slot: Slot) -> None:
        """Forget a version that no catalog entry names any more; it is unloaded when its last request is done."""
        left = [one for one in self._slots.pop(slot.model, ()) if one is not slot]
        if left:
            self._slots[slot.model] = left
        self.room.unpin(slot)
        slot.retired = True
        if slot.holders == 0:
            self._unload(slot)

    def evict(self, slot: Slot) -> None:
        """Unload a version if no request holds it; the next request loads it again."""
        if slot.holders == 0:
            self._unload(slot)

    def has_room(self, slot: Slot) -> bool:
        """True if a version is loaded, or can be without another one being evicted."""
        return slot.batcher is not None or self.room.has(self._expected(slot).at_peak)

    def demote(self, slot: Slot) -> None:
        """Let a version be the first to be evicted, however lately it was used."""
        self.room.demote(slot)

    async def prepare(self) -> None:
        """Set up the libraries of all versions that are known, and count what the process holds from here on."""
        every = chain.from_iterable(self._slots.values())
        runtimes = {slot.served.runtime.label: slot.served.runtime for slot in every}
        await self._loader.prepare(runtimes.values())
        self.room.budget.start()

    async def close(self) -> None:
        """Unload everything."""
        await self.room.clear()
        self._loader.shutdown()

    async def _loaded(self, slot: Slot) -> Batcher:
        if slot.failure is not None and time.monotonic() < slot.retry_at:
            raise TransientError(slot.failure)
        if slot.loading is None:
            slot.loading = asyncio.create_task(self._load(slot))
            slot.loading.add_done_callback(_retrieve)
        return await asyncio.shield(slot.loading)

    async def _load(self, slot: Slot) -> Batcher:
        slot.holders += 1
        started = time.perf_counter_ns()
        try:
            batcher = await self._open_in_turn(slot)
        except BurnishError as error:
            self.failed_loads += 1
            slot.failure = f"{slot} cannot be loaded: {error}"
            slot.retry_at = time.monotonic() + RETRY_SECONDS
            _log.error("%s", slot.failure, extra={"model": slot.model, "version": slot.served.version})
            raise TransientError(slot.failure) from error
        else:
            self.loads.add(time.perf_counter_ns() - started)
            slot.failure = None
            return batcher
        finally:
            slot.loading = None
            self.release(slot)

    async def _open_in_turn(self, slot: Slot) -> Batcher:
        """Open large versions one by one, and small ones of a kind that was never loaded until one of the kind was."""
        if is_large(slot.served):
            async with self._large_turn.turn(slot.tenant):
                return await self._open(slot)
        if not self._cost_is_known(slot):
            async with self._unknown_turn.turn(slot.tenant):
                if not self._cost_is_known(slot):
                    return await self._open(slot)
        return await self._open(slot)

    async def _open(self, slot: Slot) -> Batcher:
        """Make room, load, and charge what was loaded."""
        claim = await self.room.make(slot, self._expected(slot).at_peak)
        try:
            opened = await self._loader.load(slot, claim.first)
        finally:
            self.room.settle(claim)
        slot.cost = opened.cost
        try:
            self.room.check_fits(opened.cost.held)
        except TransientError:
            await self._loader.close(opened)
            raise
        self.room.fill(slot, opened)
        _log.debug("loaded %s, %.1f MiB", slot, opened.cost.held[MEMORY] / _MIB)
        return opened.batcher

    def _cost_is_known(self, slot: Slot) -> bool:
        return slot.cost is not None or self._loader.experience.has_seen(slot.served)

    def _expected(self, slot: Slot) -> Cost:
        return slot.cost or self._loader.experience.expected(slot.served)

    def _unload(self, slot: Slot) -> None:
        if slot.batcher is not None:
            self.room.unload(slot)


def _retrieve(task: asyncio.Task[Batcher]) -> None:
    """Look at a load's error even if everybody who waited for it is gone, so that nothing is logged twice."""
    if not task.cancelled():
        task.exception()
