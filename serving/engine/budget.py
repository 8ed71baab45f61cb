"""The budget: what loaded versions hold of what is bounded, beside what the process really holds."""

import math
import operator
from collections.abc import Callable
from dataclasses import dataclass

from registry.records.model import ServedVersion

LARGE_BYTES = 4 * 2**20
"""Artifacts from this size on are loaded apart from the small ones, and the peak of each of their loads is measured."""

QUICK_SECONDS = 0.002
"""What is opened in no more is opened on the event loop, for beside a busy loop a thread takes several times as long to
come by Python's lock again and again."""

MEMORY, THREADS = 0, 1
"""Places in ``Amounts``; one place for each GPU follows."""

Amounts = tuple[int, ...]
"""Bytes of memory, threads, bytes on each GPU."""

_MIB = 2**20
_SLACK, _SLACK_BYTES, _MOST_SLACK = 0.05, 16 * 2**20, 0.25
_ROOMY = 0.95
_STEP = 0.01
_LEAST = 0.25
"""The ceiling falls no lower: a worker that leaks more serves on until it is replaced."""


@dataclass(frozen=True)
class Cost:
    """What one version holds while it is loaded, how much memory at the peak of its load, and the work that this is."""

    held: Amounts
    loading: int = 0
    opening_s: float = math.inf
    """Processor time of the thread that opens it, its bytes checked."""

    @property
    def at_peak(self) -> Amounts:
        """What it holds at most while it loads."""
        return (max(self.held[MEMORY], self.loading), *self.held[1:])

    @property
    def quick(self) -> bool:
        """True if it is opened, and closed, on the event loop: it is little work, and no other thread's or device's."""
        return self.opening_s <= QUICK_SECONDS and self.held[MEMORY] < LARGE_BYTES and not any(self.held[THREADS:])


class Budget:
    """The account of one worker. What is charged is corrected by what the process really holds.

    The sum of what sessions cost says too little where an allocator keeps freed memory or a library holds more than it
    tells. So some of what the process may hold is kept free of sessions, and when the process holds a quarter of that
    too, the memory that may be charged is lowered; it is raised again, slowly, when the process has room.
    """

    def __init__(self, bounds: Amounts, resident: Callable[[], int], slack: int) -> None:
        """Take the bounds and how to measure the memory that the process holds; nothing is loaded yet.

        Args:
            bounds: what loaded versions may take.
            resident: tells the memory that the process holds.
            slack: bytes that the process may hold besides.
        """
        self.bounds = bounds
        self.process_bound = bounds[MEMORY] + slack
        """Memory that the process may hold over what it held with nothing loaded."""
        self.ceiling = bounds[MEMORY]
        """Memory that may be charged."""
        self.held: Amounts = (0,) * len(bounds)
        """What is charged for loaded versions, until they are closed."""
        self.reserved: Amounts = self.held
        """What loads that are under way may come to hold."""
        self._resident = resident
        self._baseline = resident()
        self._mark = self._tightest = bounds[MEMORY] + slack // 4

    @property
    def process_bytes(self) -> int:
        """Memory that the process holds over what it held with nothing loaded."""
        return max(0, self._resident() - self._baseline)

    @property
    def unaccounted_bytes(self) -> int:
        """Memory over the baseline that no loaded version accounts for."""
        return max(0, self.process_bytes - self.held[MEMORY] - self.reserved[MEMORY])

    def start(self) -> None:
        """Count what the process holds from here on."""
        self._baseline = self._resident()

    def set_apart(self, grown: int) -> None:
        """Leave out of the account what a library took when it was imported: it stays, whatever is unloaded."""
        self._baseline += max(0, grown)

    def charge(self, amounts: Amounts) -> None:
        """Count a loaded version."""
        self.held = plus(self.held, amounts)

    def refund(self, amounts: Amounts) -> None:
        """Count a version no more."""
        self.held = minus(self.held, amounts)

    def reserve(self, amounts: Amounts) -> None:
        """Keep room for a load."""
        self.reserved = plus(self.reserved, amounts)

    def crowded(self, wanted: Amounts) -> bool:
        """True if the process would go over its bound by a load, whatever is charged."""
        return self.process_bytes + wanted[MEMORY] > self.process_bound

    def settle(self, amounts: Amounts) -> None:
        """Give back what was reserved."""
        self.reserved = minus(self.reserved, amounts)

    def lacks(self, wanted: Amounts, freed: Amounts) -> bool:
        """True if something does not fit beside all that is held and reserved, less what is freed for it."""
        total = minus(plus(plus(self.held, self.reserved), wanted), freed)
        return total[MEMORY] > self.ceiling or any(map(operator.gt, total[1:], self.bounds[1:]))

    def never_fits(self, wanted: Amounts, pinned: Amounts) -> str | None:
        """Say what of a version is more than may be held beside the pinned ones; None if it fits there alone."""
        names = ("memory", "threads", *(f"memory of GPU {index}" for index in range(len(self.bounds) - 2)))
        for place, name in enumerate(names):
            if wanted[place] + pinned[place] > self.bounds[place]:
                beside = f" beside {_shown(pinned, place)} of pinned models" if pinned[place] else ""
                needed, bound = _shown(wanted, place), _shown(self.bounds, place)
                return f"it needs about {needed} of {name}{beside}, and this worker may hold {bound}"
        return None

    def observe(self) -> bool:
        """Correct the ceiling by what the process holds; true if it is near its bound, so that memory must go back.

        Near the bound no more may be charged than is now, and less by what the process comes nearer still. Only growth
        counts: freed memory that cannot go back, because it lies between sessions, is used again.
        """
        occupied, bound = self.process_bytes, self.bounds[MEMORY]
        if occupied > self._mark:
            self.ceiling = min(self.ceiling, self.held[MEMORY] + self.reserved[MEMORY])
            self.ceiling -= max(0, occupied - self._tightest)
            self.ceiling = max(self.ceiling, int(_LEAST * bound))
            self._tightest = max(self._tightest, occupied)
            return True
        if occupied < _ROOMY * self._mark:
            self.ceiling = min(bound, self.ceiling + int(_STEP * bound))
            self._tightest = self._mark
        return False


def _shown(amounts: Amounts, place: int) -> str:
    return str(amounts[place]) if place == THREADS else f"{amounts[place] / _MIB:.1f} MiB"


def slack_bytes(bound: int) -> int:
    """What of a bound is kept for memory that no session accounts for: requests, loads, what allocators keep."""
    return int(min(max(_SLACK * bound, _SLACK_BYTES), _MOST_SLACK * bound))


def is_large(served: ServedVersion) -> bool:
    """True if an artifact is loaded apart from the small ones."""
    return served.artifact.size_bytes >= LARGE_BYTES


def at_least(one: Amounts, other: Amounts) -> Amounts:
    """Of each thing the greater amount."""
    return tuple(map(max, one, other))


def plus(one: Amounts, other: Amounts) -> Amounts:
    """Add amounts."""
    return tuple(map(operator.add, one, other))


def minus(one: Amounts, other: Amounts) -> Amounts:
    """Take amounts away."""
    return tuple(map(operator.sub, one, other))
