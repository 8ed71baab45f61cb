"""The loader: checked bytes to warm sessions and back, beside the event loop unless that would take longer.

Bytes are always fetched and checked beside it. A session that is opened in less time than a thread waits for Python's
lock beside a busy loop is opened on the loop, and closed there; as few are under way at a time as one round can bear.
"""

import asyncio
import contextlib
import logging
import math
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
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
_PLACES = {False: 2 * _THREADS, True: _THREADS}
"""Of loads under way, by whether they are large: of the small ones, some wait for the loop while others are checked."""
_TIMED_RUNS = 2
_QUICK_SECONDS = 1e-4
"""A run that was so quick needs no second one to tell what runs cost."""
_log = logging.getLogger(__name__)


class Guards(NamedTuple):
    """What turns failures into a BurnishError: of anything, and of one version's session."""

    contain: Contain
    around: Around


class Opened(NamedTuple):
    """A version that is loaded, until it is closed, and what it costs."""

    batcher: Batcher
    cost: Cost


class _Checked(NamedTuple):
    """An artifact whose bytes are what they should be, and the guard of what loads it."""

    folder: Path
    contain: Contain


Opening = Callable[[ServedVersion, Callable[[], Session]], tuple[Session, Cost]]
"""Loads a version, and tells what it costs."""


class Loader:
    """Opens and closes sessions; a large artifact never keeps small ones waiting.

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
        self._gates = {large: FairGate(places) for large, places in _PLACES.items()}
        """Before the pools, whose own queues know no tenants."""
        self._turns = {large: threading.Lock() for large in (False, True)}
        self._runtimes: dict[str, Runtime] = {}
        self._setting_up = threading.Lock()
        """A large and a small version, the first of a runtime, would else set it up twice, and count that twice."""

    async def load(self, slot: Slot, first: Iterable[Opened]) -> Opened:
        """Close what must go first, then check the bytes of a version, open it, warm it up and time it.

        Raises:
            BurnishError: it cannot be loaded.
        """
        for leaving in first:
            await self.close(leaving)
        served, large = slot.served, is_large(slot.served)
        async with self._gates[large].turn(slot.tenant):
            beside = partial(asyncio.get_running_loop().run_in_executor, self._pools[large])
            if self._meter.wants(served):
                return await beside(self._load, slot, self._meter.measured)
            if not (slot.cost or self.experience.expected(served)).quick:
                return await beside(self._load, slot, self._meter.expected)
            checked = await beside(self._check, slot)
            with self._at_once() as free:
                if free:
                    return self._open(slot, checked, self._meter.expected)
            return await beside(self._open_in_turn, slot, checked, self._meter.expected)

    async def prepare(self, configs: Iterable[PluginConfig]) -> None:
        """Set up the libraries of runtimes, so that no request waits for that; what is not here is told of later."""
        for config in configs:
            with contextlib.suppress(BurnishError):
                await asyncio.to_thread(self._contain, self._runtime, config)

    async def close(self, leaving: Opened) -> None:
        """Close a session once its last run is over; a run outlives requests that were cancelled."""
        await leaving.batcher.finished()
        session = leaving.batcher.session
        if leaving.cost.quick:
            with self._at_once() as free:
                if free:
                    self._close(session)
                    return
        await asyncio.get_running_loop().run_in_executor(self._pools[False], self._close_in_turn, session)

    async def give_back(self) -> None:
        """Return freed memory to the system."""
        await asyncio.get_running_loop().run_in_executor(self._pools[False], give_back)

    def shutdown(self) -> None:
        """Wait for what is under way and end the threads."""
        for pool in self._pools.values():
            pool.shutdown()

    @contextmanager
    def _at_once(self) -> Iterator[bool]:
        """Take the turn of the small sessions if it is free, and yield if it was; the loop cannot wait for it."""
        turn = self._turns[False]
        free = turn.acquire(blocking=False)
        try:
            yield free
        finally:
            if free:
                turn.release()

    def _load(self, slot: Slot, opening: Opening) -> Opened:
        return self._open_in_turn(slot, self._check(slot), opening)

    def _check(self, slot: Slot) -> _Checked:
        contain = self._around(slot.digest, loading=True)
        return _Checked(self._contain(self._store.checkout, slot.served.artifact.sha256), contain)

    def _open_in_turn(self, slot: Slot, checked: _Checked, opening: Opening) -> Opened:
        with self._turns[is_large(slot.served)]:
            return self._open(slot, checked, opening)

    def _open(self, slot: Slot, checked: _Checked, opening: Opening) -> Opened:
        served, contain = slot.served, checked.contain
        runtime = contain(self._runtime, served.runtime)  # before anything is measured: its library is no model's
        session, cost = self._contain(opening, served, lambda: contain(_session, runtime, served, checked.folder))
        try:
            seconds = contain(_seconds_per_run, session)
        except BaseException:
            session.close()
            raise
        limits = BatchLimits.of(served, seconds, self._max_waiting)
        contain = self._around(slot.digest, loading=False)
        batcher = Batcher(session, limits, contain, self._runs, slot.statistics, lambda: slot.policy, slot.tenant)
        return Opened(batcher, cost)

    def _runtime(self, config: PluginConfig) -> Runtime:
        """Return the runtime with its knobs; to find and ask the plug-in takes longer than to load a small network."""
        key = config.label
        if key not in self._runtimes:
            with self._setting_up:
                if key not in self._runtimes:
                    self._runtimes[key] = self._meter.imported(lambda: _set_up(config))
        return self._runtimes[key]

    def _close_in_turn(self, session: Session) -> None:
        with self._turns[False]:
            self._close(session)

    def _close(self, session: Session) -> None:
        try:
            self._contain(session.close)
        except BurnishError as error:
            _log.error("a session of %s could not be closed: %s", type(session).__name__, error)


def _set_up(config: PluginConfig) -> Runtime:
    runtime = build_runtime(config)
    runtime.set_up()
    return runtime


def _session(runtime: Runtime, served: ServedVersion, folder: Path) -> Session:
    session = runtime.load(folder, served.artifact.format, served.signature)
    try:
        session.warm_up()
    except BaseException:
        session.close()
        raise
    return session


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
