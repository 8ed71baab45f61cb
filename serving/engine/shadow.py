"""Shadow: a version that nobody sees computes answered requests again, when nothing else is to be done.

The share of requests is decided by a hash of the request id of its own, apart from the split's and the capture's. A
request that is taken waits, in bounded memory, until its answer is made. It is dropped and counted when a primary runs
or waits, when the event loop is full, or when the shadow could only be loaded in the place of another version. One is
computed at a time; outputs are compared and written on one thread of their own.
"""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from registry.errors import BurnishError
from serving.engine.comparison import PairedDifference, compare
from serving.engine.elements import kept_bytes
from serving.engine.pair_log import LoggedPair, PairLog
from serving.engine.slot import ShadowTarget, Slot
from serving.engine.traffic import mirrored
from serving.runtime import Arrays

MAX_WAITING = 64
"""Requests that may wait for the shadow."""
MAX_WAITING_BYTES = 16 * 2**20
"""What those requests may hold in memory."""
BUSY_PASS_SECONDS = 0.001
"""The event loop has no time for a shadow when going round once takes longer than this."""
FLUSH_SECONDS = 1.0
"""What was compared is on disk after this time."""
FLUSH_PAIRS = 1024
"""... or as soon as this many pairs wait."""

Compute = Callable[[Slot, Arrays], Awaitable[tuple[Arrays, int]]]
"""Returns outputs, and the nanoseconds of their run."""


@dataclass(frozen=True, slots=True)
class Answered:
    """One request that its primary has answered."""

    slot: Slot
    request_id: str
    inputs: Arrays
    outputs: Arrays
    compute_ns: int
    """How long the run that it was in took."""

    @property
    def held_bytes(self) -> int:
        """What it keeps in memory."""
        return kept_bytes((*self.inputs.values(), *self.outputs.values()))


class ShadowTraffic:
    """Takes answered requests without waiting; all methods are called on the event loop."""

    def __init__(self, compute: Compute, may_run: Callable[[Slot], bool], capture_folder: Path) -> None:
        """Take how a version computes, if it would be in no primary's way, and where captured requests are."""
        self.compared = 0
        self.agreed = 0
        self.shed = 0
        """Requests that were to be compared, and were not for want of time or room."""
        self.failed = 0
        """Requests that the shadow could not compute."""
        self._compute = compute
        self._may_run = may_run
        self._log = PairLog(capture_folder)
        self._waiting: deque[tuple[ShadowTarget, Answered, int]] = deque()
        self._waiting_bytes = 0
        self._pairs: list[LoggedPair] = []
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="shadow")
        self._task: asyncio.Task[None] | None = None
        self._flush_timer: asyncio.TimerHandle | None = None

    @property
    def written(self) -> int:
        """Pairs on disk."""
        return self._log.written

    def offer(self, target: ShadowTarget, answered: Answered) -> None:
        """Take a request if it is among the target's share and there is room; it is computed later."""
        if not mirrored(answered.request_id, target.share):
            return
        size = answered.held_bytes
        if len(self._waiting) >= MAX_WAITING or self._waiting_bytes + size > MAX_WAITING_BYTES:
            self.shed += 1
            return
        self._waiting.append((target, answered, size))
        self._waiting_bytes += size
        if self._task is None:
            self._task = asyncio.create_task(self._work())

    async def idle(self) -> None:
        """Return when nothing waits to be compared."""
        while self._task is not None:
            await asyncio.wait([self._task])

    async def close(self) -> None:
        """Drop what waits, finish what is under way, and write what was compared."""
        self.shed += len(self._waiting)
        self._waiting.clear()
        await self.idle()
        if self._flush_timer is not None:
            self._flush_timer.cancel()
        self._flush()
        await asyncio.to_thread(self._thread.shutdown)

    async def _work(self) -> None:
        try:
            while self._waiting:
                started = time.perf_counter()
                await asyncio.sleep(0)
                if not self._waiting:
                    return
                target, answered, size = self._waiting.popleft()
                try:
                    if (
                        time.perf_counter() - started > BUSY_PASS_SECONDS
                        or answered.slot.shadow is not target
                        or not self._may_run(target.slot)
                    ):
                        self.shed += 1
                    else:
                        await self._pair(target, answered)
                finally:
                    self._waiting_bytes -= size
        finally:
            self._task = None

    async def _pair(self, target: ShadowTarget, answered: Answered) -> None:
        try:
            target.check(answered.slot)
            outputs, compute_ns = await self._compute(target.slot, answered.inputs)
        except BurnishError as error:
            self.failed += 1
            target.comparison.fail(str(error))
            return
        loop = asyncio.get_running_loop()
        differences = await loop.run_in_executor(self._thread, compare, answered.outputs, outputs)
        rows = answered.slot.plan.rows(answered.inputs)
        pair = PairedDifference(answered.request_id, rows, answered.compute_ns, compute_ns, differences)
        target.comparison.add(pair)
        self.compared += 1
        self.agreed += pair.agreed
        self._keep(LoggedPair(answered.slot.model, answered.slot.served.version, target.slot.served.version, pair))

    def _keep(self, pair: LoggedPair) -> None:
        self._pairs.append(pair)
        if len(self._pairs) >= FLUSH_PAIRS:
            self._flush()
        elif self._flush_timer is None:
            self._flush_timer = asyncio.get_running_loop().call_later(FLUSH_SECONDS, self._flush)

    def _flush(self) -> None:
        if self._flush_timer is not None:
            self._flush_timer.cancel()
            self._flush_timer = None
        pairs, self._pairs = self._pairs, []
        if pairs:
            self._thread.submit(self._log.write, pairs)
