"""Requests that were not answered: each is counted, and logged once as long as there are not too many."""

import logging
import time
from collections import Counter

LINES_PER_SECOND = 10
"""Failed requests that are logged in one second; the next line says how many were not."""

_log = logging.getLogger(__name__)


class Failures:
    """What the doors of one worker refused or failed; called on the event loop only."""

    def __init__(self) -> None:
        """Start with nothing."""
        self.counts: Counter[tuple[str, str]] = Counter()
        """By door and status, as its protocol has them."""
        self._second = 0
        self._lines = 0
        self._suppressed = 0

    def add(
        self,
        door: str,
        status: str,
        message: str,
        *,
        own_fault: bool,
        request_id: str | None = None,
        trace_id: str | None = None,
    ) -> None:
        """Count one request, and log it under its id unless enough are logged in this second.

        What the client did wrong is logged by its place only, for the message quotes what the request held.
        """
        self.counts[door, status] += 1
        second = int(time.monotonic())
        if second != self._second:
            self._second, self._lines = second, 0
        if self._lines >= LINES_PER_SECOND:
            self._suppressed += 1
            return
        self._lines += 1
        told = {"door": door, "status": status, "request_id": request_id, "trace_id": trace_id}
        if self._suppressed:
            told["suppressed"] = str(self._suppressed)
            self._suppressed = 0
        reason = message if own_fault else message.partition(": ")[0]
        level = logging.WARNING if own_fault else logging.INFO
        _log.log(level, "a request to the %s door failed with %s: %s", door, status, reason, extra=told)
