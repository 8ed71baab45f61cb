"""How urgent a request is: the parameters ``priority`` and ``timeout`` of the schedule policy extension.

Source: https://github.com/triton-inference-server/server, docs/protocol/extension_schedule_policy.md.
"""

import time
from collections.abc import Mapping
from typing import NamedTuple

from registry.errors import InputError

DEFAULT_PRIORITY = 5
"""The level of a request that names none; 1 is the highest, there is no lowest."""

_MAX_UINT64 = 2**64 - 1


class Urgency(NamedTuple):
    """Who goes first, and until when."""

    priority: int = DEFAULT_PRIORITY
    """1 is the highest."""
    deadline_ns: int | None = None
    """When nobody waits for the answer any more, on the clock ``time.perf_counter_ns``; None: never."""

    @classmethod
    def of(cls, parameters: Mapping[str, object]) -> "Urgency":
        """Read a request's parameters; 0 stands for the default of each, as in the extension.

        Raises:
            InputError: one is not a whole number.
        """
        if "priority" not in parameters and "timeout" not in parameters:
            return ROUTINE
        priority = _whole_number(parameters, "priority")
        timeout_us = _whole_number(parameters, "timeout")
        deadline = time.perf_counter_ns() + 1000 * timeout_us if timeout_us else None
        return cls(priority or DEFAULT_PRIORITY, deadline)

    def within(self, seconds: float | None) -> "Urgency":
        """Return the same with a deadline no later than this many seconds from now; None: no such limit."""
        if seconds is None:
            return self
        deadline = time.perf_counter_ns() + int(1e9 * seconds)
        return (
            self if self.deadline_ns is not None and self.deadline_ns <= deadline else Urgency(self.priority, deadline)
        )

    def seconds_left(self) -> float | None:
        """Seconds until the deadline, negative after it; None if there is none."""
        return None if self.deadline_ns is None else (self.deadline_ns - time.perf_counter_ns()) / 1e9


ROUTINE = Urgency()


def _whole_number(parameters: Mapping[str, object], name: str) -> int:
    value = parameters.get(name, 0)
    if type(value) is not int or not 0 <= value <= _MAX_UINT64:
        raise InputError(f"parameters.{name}: expected a whole number of at least 0, got {value!r:.40}")
    return value
