"""The loader: checked bytes to warm sessions and back, beside the event loop."""

import asyncio
import contextlib
import logging
import math
import threading
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from registry.errors import BurnishError
from registry.records.model import PluginConfig, ServedVersion
from registry.store.base import ArtifactStore
from serving.engine.batcher import Batcher, BatchLimits, Contain
from serving.engine.budget import Cost, is_large
from serving.engine.fair_turns import FairGate
from serving.engine.flight_record import Around
from serving.engine.meter import Meter
from serving.engine.runs import RunThreads
from serving.engine.slot import Slot
from serving.memory import give_back
from serving.runtime import Runtime, Session, build_runtime

_THREADS = 2
_TIMED_RUNS = 2
_QUICK_SECONDS = 1e-4
"""A run that was so quick needs no second one to tell what runs cost."""
_log = logging.getLogger(__name__)


class Guards(NamedTuple):
    """What turns failures into a BurnishError: of anything, and of one version's session."""

    contain: Contain
    around: Around


class Opened(NamedTuple):
    """A loaded version, and what it holds."""

    batcher: Batcher
    cost: Cost


class Loader:
    """Opens and closes sessions on threads of its own; a large artifact never keeps small ones waiting.

    Bytes are fetched and checked side by side. One small session is built or closed at a time, and one large one built,
    so that the cost of each can be measured.
    """

    def __init__(self, store: ArtifactStore, guards: Guards, runs: RunThreads, meter: Meter, max_waiting: int) -> None:
        """Take the store, the guards, where slower runs go, the meter, and the queue's bound."""
        self.experience = meter.experience
        self._store = store
        self._contain, self._around = guards
        self._runs = runs
        self._meter = meter
        self._max_waiting = max_waiting
        self._pools = {
            large: ThreadPoolExecutor(_THREADS, "load-large" if large else "load") for large in (False, True)
        }
        self._gates = {large: FairGate(_THREADS) for large in (False, True)}
        """Before the pools, whose own queues know no tenants."""
        self._turns = {large: threading.Lock() for large in (False, True)}
        self._runtimes: dict[str, Runtime] = {}

    async def load(self, slot: Slot, first: Iterable[Batcher]) -> Opened:
        """Close what must go first, then check the bytes of a version, open it, warm it up and time it.

        Raises:
            BurnishError: it cannot be loaded.
        """
        large = is_large(slot.served)
        for batcher in first:
            await batcher.finished()
        async with self._gates[large].turn(slot.tenant):
            return await asyncio.get_running_loop().run_in_executor(self._pools[large], self._load, slot, first)

    async def prepare(self, configs: Iterable[PluginConfig]) -> None:
        """Set up the libraries of runtimes, so that no request waits for that; what is not here is told of later."""
        for config in configs:
            with contextlib.suppress(BurnishError):
                await asyncio.to_thread(self._contain, self._runtime, config)

    async def close(self, batcher: Batcher) -> None:
        """Close a session once its last run is over; a run outlives requests that were cancelled."""
        await batcher.finished()
        await asyncio.get_running_loop().run_in_executor(self._pools[False], self._close, batcher)

    async def give_back(self) -> None:
        """Return freed memory to the system."""
        await asyncio.get_running_loop().run_in_executor(self._pools[False], give_back)

    def shutdown(self) -> None:
        """Wait for what is under way and end the threads."""
        for pool in self._pools.values():
            pool.shutdown()

    def _load(self, slot: Slot, first: Iterable[Batcher]) -> Opened:
        served = slot.served
        for batcher in first:
            self._close(batcher)
        contain = self._around(slot.digest, loading=True)
        folder = self._contain(self._store.checkout, served.artifact.sha256)
        with self._turns[is_large(served)]:
            session, cost = self._contain(self._meter.measured, served, lambda: contain(self._open, served, folder))
        try:
            seconds = contain(_seconds_per_run, session)
        except BaseException:
            session.close()
            raise
        limits = BatchLimits.of(served, seconds, self._max_waiting)
        contain = self._around(slot.digest, loading=False)
        batcher = Batcher(session, limits, contain, self._runs, slot.statistics, lambda: slot.policy, slot.tenant)
        return Opened(batcher, cost)

    def _open(self, served: ServedVersion, folder: Path) -> Session:
        session = self._runtime(served.runtime).load(folder, served.artifact.format, served.signature)
        try:
            session.warm_up()
        except BaseException:
            session.close()
            raise
        return session

    def _runtime(self, config: PluginConfig) -> Runtime:
        """Return the runtime with its knobs; to find and ask the plug-in takes longer than to load a small network."""
        key = config.label
        runtime = self._runtimes.get(key)
        if runtime is None:
            runtime = self._meter.imported(lambda: _set_up(config))
            self._runtimes[key] = runtime
        return runtime

    def _close(self, batcher: Batcher) -> None:
        try:
            with self._turns[False]:
                self._contain(batcher.session.close)
        except BurnishError as error:
            _log.error("a session of %s could not be closed: %s", type(batcher.session).__name__, error)


def _set_up(config: PluginConfig) -> Runtime:
    runtime = build_runtime(config)
    runtime.set_up()
    return runtime


def _seconds_per_run(session: Session) -> float:
    """The quickest of a few warm runs on one row; the first that is quick enough."""
    quickest = math.inf
    for _ in range(_TIMED_RUNS):
        start = time.perf_counter()
        session.warm_up()
        quickest = min(quickest, time.perf_counter() - start)
        if quickest < _QUICK_SECONDS:
            break
    return quickest
