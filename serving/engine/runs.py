"""The threads that runs are computed on, shared fairly between tenants, and by each tenant between its sessions.

Who asks for a thread gets it in the order of the thread time that its tenant has had, and of one tenant that its
session has had (start-time fair queueing, see ``fair_turns``). So a tenant that floods many sessions gets no more than
one that asks for one, and a slow session with a full queue holds up no other for longer than a run. Runs cannot be
interrupted: therefore slow ones never take all threads. One thread more than there are cores is kept for the others,
and the kernel shares the cores between them.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import NamedTuple, ParamSpec, TypeVar

from registry.records.tenant import DEFAULT_TENANT
from serving.engine.fair_turns import FairTurns

P = ParamSpec("P")
T = TypeVar("T")

SLOW_SECONDS = 0.01
"""Sessions whose runs take longer than this leave one thread to the others."""

_SMOOTHING = 0.3
"""Weight of the newest run in a session's usual time."""


class Share:
    """What one session has had of the threads."""

    def __init__(self, tenant: str = DEFAULT_TENANT) -> None:
        """Start with nothing, for a session of a tenant."""
        self.tenant = tenant
        self.had = 0.0
        """Virtual time: thread seconds, never behind what the tenant's others had when it last came back."""
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


class _Asking(NamedTuple):
    """A session that waits for a thread."""

    share: Share
    given: asyncio.Future[None]


class _Turn(NamedTuple):
    """A thread that a session has."""

    started: float
    expected: float
    """Seconds that its tenant was charged when it began."""


class RunThreads:
    """All methods are called on the event loop; each session asks for one turn at a time."""

    def __init__(self, cores: int) -> None:
        """Start one thread a core, and the one that slow sessions leave free."""
        self._executor = ThreadPoolExecutor(max_workers=cores + 1, thread_name_prefix="run")
        self._cores = cores
        self._turns = FairTurns[_Asking]()
        self._under_way: dict[Share, _Turn] = {}

    @asynccontextmanager
    async def turn(self, share: Share) -> AsyncIterator[None]:
        """Wait for a thread, and keep it; what is run inside counts as had by the session."""
        share.had = max(share.had, self._turns.level(share.tenant))
        given = asyncio.get_running_loop().create_future()
        self._turns.ask(share.tenant, _Asking(share, given), share.had)
        self._give()
        try:
            await given
            yield
        finally:
            turn = self._under_way.pop(share, None)
            if turn is not None:
                took = time.perf_counter() - turn.started
                share.ran(took)
                self._turns.charge(share.tenant, took - turn.expected)
            given.cancel()
            self._give()

    async def run(self, work: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Compute on the thread of the turn that the caller has."""
        return await asyncio.get_running_loop().run_in_executor(self._executor, lambda: work(*args, **kwargs))

    def close(self) -> None:
        """End the threads, once what they run is over."""
        self._executor.shutdown()

    def _give(self) -> None:
        """Hand out the threads that are free; a tenant is charged at once for what its run is likely to take."""
        while len(self._under_way) <= self._cores:
            taken = self._turns.take(self._may_go)
            if taken is None:
                return
            share, given = taken[1]
            if given.done():
                continue
            self._under_way[share] = _Turn(time.perf_counter(), share.usual_seconds)
            self._turns.charge(share.tenant, share.usual_seconds)
            given.set_result(None)

    def _may_go(self, asking: _Asking) -> bool:
        """True unless it is slow and the others need the thread; one who has given up is taken to be dropped."""
        slow = sum(share.slow for share in self._under_way)
        return asking.given.done() or not asking.share.slow or slow < self._cores
