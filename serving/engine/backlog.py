"""What is in the engine and not answered yet, bounded; and how fast it drains, for those who are turned away."""

import math
import time

from registry.errors import TransientError
from serving.engine.elements import kept_bytes
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
    """The requests of one worker that wait or run, by the bytes that they hold."""

    def __init__(self, max_bytes: int) -> None:
        """Take the bound."""
        self.bytes = 0
        self._max_bytes = max_bytes
        self._drain = Drain()

    def enter(self, inputs: Arrays) -> int:
        """Let a request in and return its bytes, to be given back by ``leave``.

        Raises:
            TransientError: the worker holds as much as it may.
        """
        size = _REQUEST_BYTES + kept_bytes(inputs.values())
        if self.bytes + size > self._max_bytes and self.bytes:
            raise TransientError(
                f"the requests in this worker hold {self.bytes} bytes, as many as they may; try again shortly",
                retry_after_s=self._drain.retry_after_s(self.bytes),
            )
        if not self.bytes:
            self._drain.begin()
        self.bytes += size
        return size

    def leave(self, size: int) -> None:
        """A request was answered, or given up."""
        self.bytes -= size
        self._drain.left(size)
