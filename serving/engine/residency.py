"""Residency: versions are loaded on first use and evicted, least recently used first, under a measured budget."""

import asyncio
import logging
import time
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from registry.errors import BurnishError, InputError, TransientError
from registry.records.model import ServedVersion
from registry.records.release import NonFinite, ServingPolicy
from registry.store.base import ArtifactStore
from serving.engine.batcher import Batcher, BatchLimits, Contain
from serving.engine.comparison import Comparison
from serving.engine.flight_record import Around
from serving.engine.lineage import Lineage
from serving.engine.response_cache import ResponseCache
from serving.engine.runs import RunThreads
from serving.engine.statistics import Histogram, Statistics
from serving.engine.tensors import SignaturePlan
from serving.runtime import Session, build_runtime

RETRY_SECONDS = 5.0
"""A version that could not be loaded is not tried again before this time."""

_MIB = 2**20
_TIMED_RUNS = 3
_log = logging.getLogger(__name__)


@dataclass(eq=False)
class Slot:
    """One version of one model: loaded or not, and how many requests hold it."""

    model: str
    served: ServedVersion
    policy: ServingPolicy = field(default_factory=ServingPolicy)
    """Of its model; replaced with the model's entry."""
    shadow: "ShadowTarget | None" = None
    """What computes its answered requests again; replaced with the model's entry."""
    cache: ResponseCache | None = None
    """Of its model, where the policy asks for one; replaced with the model's entry."""
    batcher: Batcher | None = None
    holders: int = 0
    retired: bool = False
    loading: asyncio.Task[Batcher] | None = None
    failure: str | None = None
    retry_at: float = 0.0
    plan: SignaturePlan = field(init=False, repr=False)
    lineage: Lineage = field(init=False, repr=False)
    statistics: Statistics = field(default_factory=Statistics, repr=False)

    def __post_init__(self) -> None:
        """Work out once what every request asks of the signature, and what every answer says of the version."""
        self.plan = SignaturePlan.of(self.served.signature)
        self.lineage = Lineage.of(self.model, self.served)

    @property
    def finite_only(self) -> bool:
        """NaN and infinities in inputs are refused."""
        return self.policy.non_finite is NonFinite.REFUSE

    def __str__(self) -> str:
        """The version as messages name it."""
        return f"{self.model} version {self.served.version}"


@dataclass(frozen=True, eq=False)
class ShadowTarget:
    """A version that computes a share of another one's requests again, and what came of it."""

    slot: Slot
    share: float
    comparison: Comparison

    def check(self, primary: Slot) -> None:
        """Check that what the primary takes can be given to the shadow.

        Raises:
            InputError: the two take different inputs.
        """
        if self.slot.served.signature.inputs != primary.served.signature.inputs:
            raise InputError(f"{self.slot} takes other inputs than {primary}, so it cannot be its shadow")


@dataclass(frozen=True)
class ResidencyLimits:
    """What one worker may hold."""

    resident_mib: int
    max_waiting: int
    """Requests that may wait before one session."""


class Residency:
    """Every slot of this worker; all methods are called on the event loop, loading happens beside it."""

    def __init__(
        self,
        store: ArtifactStore,
        limits: ResidencyLimits,
        contain: Contain,
        runs: RunThreads,
        around: Around | None = None,
    ) -> None:
        """Take the store, the limits, a guard of what may fail, threads of slower runs, and sessions' own guards."""
        self._store = store
        self._limits = limits
        self._contain = contain
        self._runs = runs
        self._around = around or (lambda _served, *, loading: contain)
        self._loader = ThreadPoolExecutor(max_workers=1, thread_name_prefix="load")
        self._slots: dict[tuple[str, str], Slot] = {}
        self._resident: OrderedDict[Slot, int] = OrderedDict()
        self._closing: set[asyncio.Task[None]] = set()
        self.resident_bytes = 0
        """Measured bytes of all loaded versions."""
        self.loads = Histogram()
        """Loads that ended well: bytes checked, session built, warmed up and timed."""
        self.failed_loads = 0
        self.evictions = 0
        """Versions that were unloaded to keep the budget."""

    @property
    def resident_versions(self) -> int:
        """How many versions are loaded."""
        return len(self._resident)

    @property
    def budget_bytes(self) -> int:
        """What all loaded versions may take."""
        return self._limits.resident_mib * _MIB

    def slot(self, model: str, served: ServedVersion) -> Slot:
        """Return the one slot of a version."""
        return self._slots.setdefault((model, served.digest), Slot(model, served))

    def loaded(self, slot: Slot) -> Batcher | None:
        """Return what a version runs on, for a run that ends before anything else happens; None if it is not loaded."""
        if slot.batcher is not None:
            self._resident.move_to_end(slot)
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
        if slot.holders == 0 and slot.retired:
            self._unload(slot)
        elif slot.holders == 0:
            self._trim()

    def retire(self, slot: Slot) -> None:
        """Forget a version that no catalog entry names any more; it is unloaded when its last request is done."""
        self._slots.pop((slot.model, slot.served.digest), None)
        slot.retired = True
        if slot.holders == 0:
            self._unload(slot)

    def evict(self, slot: Slot) -> None:
        """Unload a version if no request holds it; the next request loads it again."""
        if slot.holders == 0:
            self._unload(slot)

    def has_room(self, slot: Slot) -> bool:
        """True if a version is loaded, or can be without another one being evicted."""
        free = self._limits.resident_mib * _MIB - self.resident_bytes
        return slot.batcher is not None or slot.served.artifact.size_bytes <= free

    def demote(self, slot: Slot) -> None:
        """Let a version be the first to be evicted, however lately it was used."""
        if slot in self._resident:
            self._resident.move_to_end(slot, last=False)

    async def close(self) -> None:
        """Unload everything."""
        for slot in list(self._resident):
            self._unload(slot)
        await asyncio.gather(*self._closing)
        self._loader.shutdown()

    async def _loaded(self, slot: Slot) -> Batcher:
        if slot.failure is not None and time.monotonic() < slot.retry_at:
            raise TransientError(slot.failure)
        if slot.loading is None:
            slot.loading = asyncio.create_task(self._load(slot))
            slot.loading.add_done_callback(_retrieve)
        return await asyncio.shield(slot.loading)

    async def _load(self, slot: Slot) -> Batcher:
        loop = asyncio.get_running_loop()
        started = time.perf_counter_ns()
        slot.holders += 1
        try:
            contain = self._around(slot.served, loading=True)
            folder = await asyncio.to_thread(self._contain, self._store.checkout, slot.served.artifact.sha256)
            batcher = await loop.run_in_executor(self._loader, contain, self._open, slot, folder)
        except BurnishError as error:
            self.failed_loads += 1
            slot.failure = f"{slot} cannot be loaded: {error}"
            slot.retry_at = time.monotonic() + RETRY_SECONDS
            _log.error("%s", slot.failure)
            raise TransientError(slot.failure) from error
        else:
            self.loads.add(time.perf_counter_ns() - started)
            slot.failure = None
            slot.batcher = batcher
            self._resident[slot] = batcher.session.resident_bytes
            self.resident_bytes += batcher.session.resident_bytes
            _log.info("loaded %s, %.1f MiB", slot, batcher.session.resident_bytes / _MIB)
            self._trim()
            return batcher
        finally:
            slot.loading = None
            self.release(slot)

    def _open(self, slot: Slot, folder: Path) -> Batcher:
        """Load checked bytes, warm the session up and time it; runs on the loader's one thread."""
        served = slot.served
        session = build_runtime(served.runtime).load(folder, served.artifact.format, served.signature)
        try:
            session.warm_up()
            limits = BatchLimits.of(served, _seconds_per_run(session), self._limits.max_waiting)
        except BaseException:
            session.close()
            raise
        contain = self._around(served, loading=False)
        return Batcher(session, limits, contain, self._runs, slot.statistics, lambda: slot.policy)

    def _trim(self) -> None:
        """Evict, oldest use first, what no request holds, until the budget is kept; the newest always stays."""
        if self.resident_bytes <= self.budget_bytes:
            return
        for slot in list(self._resident)[:-1]:
            if slot.holders == 0:
                self.evictions += 1
                self._unload(slot)
            if self.resident_bytes <= self.budget_bytes:
                return

    def _unload(self, slot: Slot) -> None:
        if slot.batcher is None:
            return
        self.resident_bytes -= self._resident.pop(slot)
        task = asyncio.create_task(self._close(slot, slot.batcher))
        slot.batcher = None
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    async def _close(self, slot: Slot, batcher: Batcher) -> None:
        """Close a session once its last run is over; a run outlives requests that were cancelled."""
        await batcher.finished()
        try:
            await asyncio.get_running_loop().run_in_executor(self._loader, self._contain, batcher.session.close)
        except BurnishError as error:
            _log.error("%s could not be unloaded: %s", slot, error)
        else:
            _log.info("unloaded %s", slot)


def _seconds_per_run(session: Session) -> float:
    """The quickest of a few warm runs on one row."""
    times = []
    for _ in range(_TIMED_RUNS):
        start = time.perf_counter()
        session.warm_up()
        times.append(time.perf_counter() - start)
    return min(times)


def _retrieve(task: asyncio.Task[Batcher]) -> None:
    """Look at a load's error even if everybody who waited for it is gone, so that nothing is logged twice."""
    if not task.cancelled():
        task.exception()
