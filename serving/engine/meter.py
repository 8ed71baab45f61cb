"""The meter: what a load costs, measured, or known from loads alike."""

from collections.abc import Callable
from typing import Protocol

from registry.records.model import ServedVersion
from serving.engine.budget import Budget, Cost, is_large
from serving.engine.experience import Experience
from serving.memory import peak_bytes, resident_set_bytes, start_peak, thread_count, unmeasured
from serving.runtime import Runtime, Session

_MEASURED_EVERY = 16
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

    def measured(self, served: ServedVersion, load: Callable[[], Session]) -> tuple[Session, Cost]:
        """Load one version and return its cost.

        What a small one adds cannot be told while a large one is loaded: then it is taken to cost what is expected.
        """
        large = is_large(served)
        self._loads += 1
        if not large and self.experience.sure(served) and self._loads % _MEASURED_EVERY:
            return self._quickly(served, load)
        first = not self.experience.knows(served.runtime)
        self._large_loads += large
        occupied = self._budget.process_bytes  # of which a library is no part that is imported only now
        others = self._threads_and_gpu()
        before = start_peak() if large else 0
        try:
            session = load()
            disturbed = not large and self._large_loads > 0
        finally:
            self._large_loads -= large
        if disturbed:
            return session, self.experience.expected(served)
        loading = peak_bytes() - before if large else session.resident_bytes
        added = (max(0, now - then) for now, then in zip(self._threads_and_gpu(), others, strict=True))
        cost = Cost((session.resident_bytes, *added), loading)
        if first:  # what a library sets up once stays, whatever is unloaded
            self._budget.set_apart(self._budget.process_bytes - occupied - session.resident_bytes)
        self.experience.learn(served, cost)
        return session, cost

    def _quickly(self, served: ServedVersion, load: Callable[[], Session]) -> tuple[Session, Cost]:
        """Load one of a kind of which enough were measured: it costs what they did."""
        with unmeasured():
            session = load()
        return session, self.experience.expected(served)

    def _threads_and_gpu(self) -> tuple[int, ...]:
        return (thread_count(), *self._devices.used_bytes())
