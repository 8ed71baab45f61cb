"""The threads that runs are computed on, shared fairly between sessions.

Who asks for a thread gets it in the order of the thread time that its session has had (start-time fair queuing), so a
slow session with a full queue holds up no other for longer than a run. Runs cannot be interrupted: therefore slow
ones never take all threads. One thread more than there are cores is kept for the others, and the kernel shares the
cores between them.

Source: P. Goyal, H. Vin, H. Cheng, "Start-time fair queuing", SIGCOMM 1996.
"""

import asyncio
import heapq
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from itertools import count
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

SLOW_SECONDS = 0.01
"""Sessions whose runs take longer than this leave one thread to the others."""

_SMOOTHING = 0.3
"""Weight of the newest run in a session's usual time."""


class Share:
    """What one session has had of the threads."""

    def __init__(self) -> None:
        """Start with nothing."""
        self.had = 0.0
        """Virtual time: thread seconds, never behind what all others had when it last came back."""
        self.usual_seconds = 0.0
        """Of a run, of late."""

    @property
    def slow(self) -> bool:
        """True if its runs are long enough to be in the way of others."""
        return self.usual_seconds > SLOW_SECONDS

    def ran(self, seconds: float) -> None:
        """Count one run."""
        self.had += seconds
        self.usual_seconds += _SMOOTHING * (seconds - self.usual_seconds)


class RunThreads:
    """All methods are called on the event loop; each session asks for one turn at a time."""

    def __init__(self, cores: int) -> None:
        """Start one thread a core, and the one that slow sessions leave free."""
        self._executor = ThreadPoolExecutor(max_workers=cores + 1, thread_name_prefix="run")
        self._cores = cores
        self._asking: list[tuple[float, int, Share, asyncio.Future[None]]] = []
        self._order = count()
        self._virtual_time = 0.0
        self._under_way: dict[Share, float] = {}

    @asynccontextmanager
    async def turn(self, share: Share) -> AsyncIterator[None]:
        """Wait for a thread, and keep it; what is run inside counts as had by the session."""
        share.had = max(share.had, self._virtual_time)
        given = asyncio.get_running_loop().create_future()
        heapq.heappush(self._asking, (share.had, next(self._order), share, given))
        self._give()
        try:
            await given
            yield
        finally:
            start = self._under_way.pop(share, None)
            if start is not None:
                share.ran(time.perf_counter() - start)
            given.cancel()
            self._give()

    async def run(self, work: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Compute on the thread of the turn that the caller has."""
        return await asyncio.get_running_loop().run_in_executor(self._executor, lambda: work(*args, **kwargs))

    def close(self) -> None:
        """End the threads, once what they run is over."""
        self._executor.shutdown()

    def _give(self) -> None:
        """Hand out the threads that are free, least thread time first."""
        kept = []
        slow = sum(share.slow for share in self._under_way)
        while self._asking and len(self._under_way) <= self._cores:
            asking = heapq.heappop(self._asking)
            had, _, share, given = asking
            if given.done():
                continue
            if share.slow and slow >= self._cores:
                kept.append(asking)
                continue
            slow += share.slow
            self._virtual_time = max(self._virtual_time, had)
            self._under_way[share] = time.perf_counter()
            given.set_result(None)
        for asking in kept:
            heapq.heappush(self._asking, asking)
