"""The meter: what a load costs, measured, or known from loads alike."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from time import thread_time
from typing import Protocol

from registry.records.model import ServedVersion
from serving.engine.budget import Budget, Cost, is_large
from serving.engine.experience import Experience
from serving.memory import allocated_bytes, peak_bytes, resident_set_bytes, start_peak, thread_count, unmeasured
from serving.runtime import Runtime, Session

_MEASURED_EVERY = 64
"""Of small versions of a kind that is known, one in so many is measured."""


class DeviceMemory(Protocol):
    """What this process holds on each GPU."""

    def used_bytes(self) -> tuple[int, ...]:
        """Return the bytes by device, the same devices in the same order each time."""
        ...


class NoDevices:
    """A machine without a GPU."""

    def used_bytes(self) -> tuple[int, ...]:
        """Return nothing."""
        return ()


class Meter:
    """Measures loads. Of the large artifacts one is loaded at a time, and of the small ones one."""

    def __init__(self, budget: Budget, devices: DeviceMemory) -> None:
        """Take the account, and the GPUs."""
        self.experience = Experience(budget.bounds)
        self._budget = budget
        self._devices = devices
        self._loads = 0
        self._large_loads = 0

    def imported(self, build: Callable[[], Runtime]) -> Runtime:
        """Build a runtime and set it up; what its library takes is no model's."""
        before = resident_set_bytes()
        runtime = build()
        self._budget.set_apart(resident_set_bytes() - before)
        return runtime

    def wants(self, served: ServedVersion) -> bool:
        """True if the next load of a version is to be measured; asked once for each load."""
        self._loads += 1
        return is_large(served) or not self.experience.sure(served) or self._loads % _MEASURED_EVERY == 0

    def expected(self, served: ServedVersion, load: Callable[[], Session]) -> tuple[Session, Cost]:
        """Load one of a kind of which enough were measured: it costs what they did; only its work is looked at."""
        with unmeasured():
            session, opening_s = _timed(load)
        self.experience.learn_work(served, opening_s)
        return session, replace(self.experience.expected(served), opening_s=opening_s)

    def measured(self, served: ServedVersion, load: Callable[[], Session]) -> tuple[Session, Cost]:
        """Load one version and return its cost.

        What a small one adds cannot be told while a large one is loaded: then it is taken to cost what is expected.
        """
        large = is_large(served)
        first = not self.experience.knows(served.runtime)
        self._large_loads += large
        occupied = self._budget.process_bytes  # of which a library is no part that is imported only now
        others = self._threads_and_gpu()
        before = start_peak() if large else 0
        try:
            (session, opening_s), kept = (_timed(load), 0) if large else _on_fresh_thread(load)
            disturbed = not large and self._large_loads > 0
        finally:
            self._large_loads -= large
        if disturbed:
            return session, self.experience.expected(served)
        held = max(session.resident_bytes - kept, served.artifact.size_bytes)
        loading = peak_bytes() - before if large else held
        added = (max(0, now - then) for now, then in zip(self._threads_and_gpu(), others, strict=True))
        cost = Cost((held, *added), loading, opening_s)
        if first:  # what a library sets up once stays, whatever is unloaded
            self._budget.set_apart(self._budget.process_bytes - occupied - held)
        self.experience.learn(served, cost)
        return session, cost

    def _threads_and_gpu(self) -> tuple[int, ...]:
        return (thread_count(), *self._devices.used_bytes())


def _timed(load: Callable[[], Session]) -> tuple[Session, float]:
    """Load; return also the processor time of this thread, which waits for others do not lengthen."""
    start = thread_time()
    session = load()
    return session, thread_time() - start


def _on_fresh_thread(load: Callable[[], Session]) -> tuple[tuple[Session, float], int]:
    """Load on a thread of its own; return also the bytes that the allocator kept for the thread until it ended.

    What is kept for a thread counts as in use. On one that has closed sessions before, the next session would move into
    that, and seem to cost a tenth less than it does.
    """

    def work() -> tuple[tuple[Session, float], int]:
        return _timed(load), allocated_bytes()

    with ThreadPoolExecutor(1, "load-measured") as fresh:
        timed, in_use = fresh.submit(work).result()
    return timed, max(0, in_use - allocated_bytes())
