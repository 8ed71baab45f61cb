"""Requests at a constant rate, whatever the answers do; a process of its own.

It reads jobs from standard input, one JSON document a line, and writes a line of figures for each. A latency counts
from the moment at which a request was due, so that a server that stands still is not spared.
"""

import asyncio
import contextlib
import os
import sys
import time
from collections import Counter, deque
from collections.abc import Callable
from typing import cast

import httptools
import numpy as np
import psutil
import uvloop
from pydantic import Field

from benchmarks.gateway.open_grpc import Answered, open_grpc
from benchmarks.serving.figures import Target, Wire
from benchmarks.serving.load_http import HOST, written
from benchmarks.serving.load_process import LoadProcess
from registry.records.base import Record

_CONNECTIONS = 64
_TICK_S = 0.001
"""The event loop's timers count whole milliseconds: a shorter sleep would be none, and this process would spin."""
_WARM_S = 0.5

_Asks = Callable[[int], None]
"""Sends a request; given the moment at which it was due."""
_LAST_ANSWERS_S = 5.0


class OpenJob(Record):
    """Load at a constant rate on some targets at the same time."""

    rates: dict[str, float] = Field(description="Requests a second, by the target's name.")
    targets: tuple[Target, ...]
    seconds: float
    processes: dict[str, tuple[int, ...]] = Field(description="Whose CPU time is read, by a name.")


class OpenRound(Record):
    """What one target answered."""

    sent: int
    statuses: dict[str, int]
    p50_ms: float
    p99_ms: float
    late_ms: float = Field(description="How late this process itself was, at the 99th percentile.")
    cpu_us: dict[str, float] = Field(
        description="CPU time for each request sent to any target; `load` is this process."
    )


class _Tally:
    def __init__(self) -> None:
        self.sent = 0
        self.statuses: Counter[str] = Counter()
        self.latencies_ns: list[int] = []
        self.late_ns: list[int] = []

    def forget(self) -> None:
        """Count from nothing again."""
        self.sent = 0
        self.statuses.clear()
        self.latencies_ns.clear()
        self.late_ns.clear()

    def answered(self, due_ns: int, status: str) -> None:
        self.statuses[status] += 1
        self.latencies_ns.append(time.perf_counter_ns() - due_ns)


class _Connection(asyncio.Protocol):
    """One connection, which takes the next request that is due when it is free."""

    _transport: asyncio.Transport

    def __init__(self, request: bytes, answered: Answered, free: "deque[_Connection]", due: "deque[int]") -> None:
        self._request, self._answered, self._free, self._due = request, answered, free, due
        self._parser = httptools.HttpResponseParser(self)
        self._asked_ns = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def connection_lost(self, _: Exception | None) -> None:
        if self._asked_ns:
            self._answered(self._asked_ns, "lost")

    def on_message_complete(self) -> None:
        asked, self._asked_ns = self._asked_ns, 0
        self._answered(asked, str(self._parser.get_status_code()))
        if self._due:
            self.ask(self._due.popleft())
        else:
            self._free.append(self)

    def ask(self, due_ns: int) -> None:
        self._asked_ns = due_ns
        self._transport.write(self._request)

    def close(self) -> None:
        self._asked_ns = 0
        self._transport.abort()


async def _open_http(target: Target, answered: Answered) -> tuple[_Asks, Callable[[], None]]:
    """Return what sends a request that is due, and what ends all connections."""
    free: deque[_Connection] = deque()
    due: deque[int] = deque()
    loop, request = asyncio.get_running_loop(), written(target)
    for _ in range(_CONNECTIONS):
        _, protocol = await loop.create_connection(
            lambda: _Connection(request, answered, free, due), HOST, target.ports[0]
        )
        free.append(protocol)
    everyone = tuple(free)

    def ask(due_ns: int) -> None:
        if free:
            free.pop().ask(due_ns)
        else:
            due.append(due_ns)

    def close() -> None:
        for one in everyone:
            one.close()

    return ask, close


async def _all_at_rate(job: OpenJob, asks: dict[str, _Asks], tallies: dict[str, _Tally], seconds: float) -> None:
    await asyncio.gather(*(_at_rate(asks[name], tally, job.rates[name], seconds) for name, tally in tallies.items()))


async def _at_rate(ask: _Asks, tally: _Tally, rate: float, seconds: float) -> None:
    begun, wanted = time.perf_counter_ns(), max(1, int(rate * seconds))
    while tally.sent < wanted:
        due = begun + int(tally.sent * 1e9 / rate)
        late = time.perf_counter_ns() - due
        if late < 0:
            await asyncio.sleep(_TICK_S)
            continue
        tally.sent += 1
        tally.late_ns.append(late)
        ask(due)
        if tally.sent % 16 == 0:
            await asyncio.sleep(0)  # answers are read between requests that are late as well
    deadline = time.monotonic() + _LAST_ANSWERS_S
    while len(tally.latencies_ns) < wanted and time.monotonic() < deadline:
        await asyncio.sleep(_TICK_S)


async def hold(job: OpenJob) -> dict[str, OpenRound]:
    """Send what is due to every target, first for a while that does not count; return what each answered."""
    tallies = {target.name: _Tally() for target in job.targets}
    asks: dict[str, _Asks] = {}
    with contextlib.ExitStack() as ends:
        for target in job.targets:
            open_ = open_grpc if target.wire is Wire.GRPC else _open_http
            asks[target.name], close = await open_(target, tallies[target.name].answered)
            ends.callback(close)
        await _all_at_rate(job, asks, tallies, _WARM_S)  # for the first requests a gateway opens connections of its own
        for tally in tallies.values():
            tally.forget()
        before = _cpu_s(job)
        await _all_at_rate(job, asks, tallies, job.seconds)
        used = {name: seconds - before[name] for name, seconds in _cpu_s(job).items()}
    sent = sum(tally.sent for tally in tallies.values())
    cpu_us = {name: seconds * 1e6 / sent for name, seconds in used.items()}
    return {name: _round(tally, cpu_us) for name, tally in tallies.items()}


def _cpu_s(job: OpenJob) -> dict[str, float]:
    """CPU time so far, by name."""
    processes = {"load": (os.getpid(),), **job.processes}
    return {name: sum(sum(psutil.Process(pid).cpu_times()[:2]) for pid in pids) for name, pids in processes.items()}


def _round(tally: _Tally, cpu_us: dict[str, float]) -> OpenRound:
    statuses = dict(tally.statuses)
    if (missing := tally.sent - sum(statuses.values())) > 0:
        statuses["none"] = missing
    found = np.array(tally.latencies_ns or [0]) / 1e6
    p50, p99 = np.percentile(found, [50, 99])
    late = np.percentile(np.array(tally.late_ns) / 1e6, 99)
    return OpenRound(
        sent=tally.sent,
        statuses=statuses,
        p50_ms=float(p50),
        p99_ms=float(p99),
        late_ms=float(late),
        cpu_us=cpu_us,
    )


class OpenGenerator(LoadProcess):
    """Puts load at a constant rate on several targets at the same time."""

    def __init__(self) -> None:
        """Nothing is started yet."""
        super().__init__("benchmarks.gateway.open_loop")

    def hold(
        self, seconds: float, *loads: tuple[Target, float], processes: dict[str, tuple[int, ...]]
    ) -> dict[str, OpenRound]:
        """Send to each target at its rate; return what each answered, by its name, and what it took of some processes.

        Raises:
            RuntimeError: the process is gone.
        """
        rates = {target.name: rate for target, rate in loads}
        targets = tuple(target for target, _ in loads)
        job = OpenJob(rates=rates, targets=targets, seconds=seconds, processes=processes)
        return _Answer.model_validate_json(self.ask(job.model_dump_json())).rounds


class _Answer(Record):
    rounds: dict[str, OpenRound]


def main() -> None:
    """Hold one job after the other."""
    for line in sys.stdin:
        answer = _Answer(rounds=uvloop.run(hold(OpenJob.model_validate_json(line))))
        sys.stdout.write(answer.model_dump_json() + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
