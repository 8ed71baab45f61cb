"""The W3C trace context of a request, and the trace that it is followed by while it is under way.

Source: https://www.w3.org/TR/trace-context/.
"""

import re
import time
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import NamedTuple

from serving.engine.slot import Slot

_PARENT = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(-.*)?")
_SAMPLED = 1


class Parent(NamedTuple):
    """The trace that a request belongs to, as it came."""

    traceparent: str
    tracestate: str = ""

    @property
    def trace_id(self) -> str:
        """32 hex digits."""
        return self.traceparent[3:35]

    @property
    def sampled(self) -> bool:
        """True if whoever sent the request records the trace."""
        return bool(int(self.traceparent[53:55], 16) & _SAMPLED)


def read_parent(traceparent: str, tracestate: str = "") -> Parent | None:
    """Read a trace context; one that breaks the rules counts as none, as the specification has it."""
    found = _PARENT.fullmatch(traceparent)
    if found is None or (traceparent.startswith("00") and found[1] is not None):
        return None
    return Parent(traceparent, tracestate)


@dataclass(slots=True)
class Trace:
    """A sampled request that is under way; the engine notes here what becomes of it."""

    parent: Parent | None
    started_ns: int = field(default_factory=time.time_ns)
    slot: Slot | None = None
    queue_ns: int = 0
    compute_ns: int = 0


CURRENT: ContextVar[Trace | None] = ContextVar("trace", default=None)
"""Of the request that is being answered; None where it is not sampled."""
