"""What is in the engine and not answered yet, bounded; and how fast it drains, for those who are turned away."""

import math
import time
from typing import NoReturn

from registry.errors import QueueFull, TransientError
from serving.engine.elements import kept_bytes
from serving.engine.fair_turns import Tenant
from serving.engine.shared_bound import SharedBound
from serving.runtime import Arrays

MAX_RETRY_SECONDS = 60

_REQUEST_BYTES = 4096
"""What a request costs beside its tensors."""
_FORGETTING = 0.95
"""Weight of what was measured before, each time that something has left."""


class Drain:
    """The measured rate at which something leaves a queue that is never empty meanwhile."""

    def __init__(self) -> None:
        """Know nothing."""
        self._amount = 0.0
        self._seconds = 0.0
        self._since_ns = 0

    def begin(self) -> None:
        """The queue was empty until now."""
        self._since_ns = time.perf_counter_ns()

    def left(self, amount: int) -> None:
        """Count what left."""
        now = time.perf_counter_ns()
        self._amount = _FORGETTING * self._amount + amount
        self._seconds = _FORGETTING * self._seconds + (now - self._since_ns) / 1e9
        self._since_ns = now

    def retry_after_s(self, amount: int) -> int:
        """Whole seconds until as much has left, at least 1; also 1 while nothing is known."""
        if not self._amount:
            return 1
        return min(max(1, math.ceil(amount * self._seconds / self._amount)), MAX_RETRY_SECONDS)


class Backlog:
    """The requests of one worker that wait or run, by the bytes that they hold; the room is shared between tenants."""

    def __init__(self, max_bytes: int) -> None:
        """Take the bound."""
        self._bound = SharedBound(max_bytes)
        self._drain = Drain()

    @property
    def bytes(self) -> int:
        """What all requests hold."""
        return self._bound.total

    def enter(self, inputs: Arrays, tenant: Tenant = None) -> int:
        """Let a request in and return its bytes, to be given back by ``leave``.

        Raises:
            QueueFull: its tenant holds more than its share.
            TransientError: the worker holds as much as it may.
        """
        return self.enter_bytes(kept_bytes(inputs.values()), tenant)

    def enter_bytes(self, size: int, tenant: Tenant) -> int:
        """Let in a request that holds so many bytes, and return what it counts for.

        Raises:
            QueueFull: its tenant holds more than its share.
            TransientError: the worker holds as much as it may.
        """
        size += _REQUEST_BYTES
        if not self._bound.fits(tenant, size):
            self._refuse(tenant)
        if not self.bytes:
            self._drain.begin()
        self._bound.take(tenant, size)
        return size

    def leave(self, size: int, tenant: Tenant = None) -> None:
        """A request was answered, or given up."""
        self._bound.give_back(tenant, size)
        self._drain.left(size)

    def _refuse(self, tenant: Tenant) -> NoReturn:
        retry = self._drain.retry_after_s(self.bytes)
        if self._bound.alone(tenant) or self._bound.full:
            held = f"the requests in this worker hold {self.bytes} bytes, as many as they may; try again shortly"
            raise TransientError(held, retry_after_s=retry)
        raise QueueFull(
            "the requests of this tenant hold its share of this worker; try again shortly", retry_after_s=retry
        )
