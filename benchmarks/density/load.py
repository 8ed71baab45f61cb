"""The load: a process of its own that asks models over kept connections, closed loop or open, and keeps every latency.

Run as ``python -m benchmarks.density.load JOB OUT``: a job as JSON, and the answers as NumPy arrays.
"""

import asyncio
import json
import sys
import time
from collections import deque
from pathlib import Path
from typing import cast

import numpy as np
import numpy.typing as npt
import uvloop
from pydantic import Field

from registry.records.base import Record

_OK = b"HTTP/1.1 200"
_LENGTH = b"content-length:"
_END = b"\r\n\r\n"
_CONNECTIONS_WAIT_SECONDS = 10.0


class LoadJob(Record):
    """What one load asks."""

    port: int
    models: tuple[str, ...] = Field(description="Asked by their place.")
    width: int = Field(description="Floats in one request.")
    sequence: str = Field(description="File with the places to ask, in order (.npy).")
    seconds: float
    connections: int
    rate: float = Field(default=0.0, description="Requests a second, sent when they are due (open loop); 0: closed.")


class Answers:
    """What came back, in the order of the requests."""

    def __init__(self, count: int) -> None:
        """Make room for so many."""
        self.latency_s: npt.NDArray[np.float64] = np.full(count, np.nan)
        self.failures: list[str] = []
        self.sent = 0


class Connection(asyncio.Protocol):
    """One kept connection: one request at a time."""

    def __init__(self, load: "Load") -> None:
        """Take who is told of answers."""
        self._load = load
        self._received = b""
        self._place = -1
        self._since = 0.0
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass of it

    def ask(self, place: int, request: bytes, since: float) -> None:
        """Send one request."""
        assert self._transport is not None
        self._place, self._since = place, since
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        """Collect one answer."""
        self._received = received = self._received + data if self._received else data
        end = received.find(_END)
        if end < 0:
            return
        start = received.lower().find(_LENGTH) + len(_LENGTH)
        length = int(received[start : received.index(b"\r", start)])
        if len(received) >= end + len(_END) + length:
            self._received = b""
            failure = None if received.startswith(_OK) else received[-200:].decode("latin-1")
            self._load.answered(self, self._place, time.perf_counter() - self._since, failure)

    def connection_lost(self, error: Exception | None) -> None:
        """Count a connection that the server closed."""
        self._load.lost(f"connection lost: {error}")

    def close(self) -> None:
        """Close it."""
        if self._transport is not None:
            self._transport.close()


class Load:
    """All connections of one job."""

    def __init__(self, job: LoadJob, places: npt.NDArray[np.int64]) -> None:
        """Write every request in advance."""
        self.answers = Answers(len(places))
        self._job = job
        body = json.dumps(
            {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, job.width], "data": [0.5] * job.width}]}
        ).encode()
        rest = b" HTTP/1.1\r\nhost: bench\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s"
        tail = rest % (len(body), body)
        requests = [b"POST /v2/models/%s/infer%s" % (model.encode(), tail) for model in job.models]
        self._requests = [requests[place] for place in places.tolist()]
        self._idle: deque[Connection] = deque()
        self._due: deque[tuple[int, float]] = deque()
        self._deadline = 0.0
        self._open = 0
        self._done = asyncio.Event()

    async def run(self) -> float:
        """Ask until the time is over or everything was asked; return the seconds until the last answer."""
        loop = asyncio.get_running_loop()
        for _ in range(self._job.connections):
            _, connection = await loop.create_connection(lambda: Connection(self), "127.0.0.1", self._job.port)
            self._idle.append(connection)
        start = time.perf_counter()
        self._deadline = start + self._job.seconds
        if self._job.rate:
            await self._send_when_due(start)
        else:
            for _ in range(len(self._idle)):
                self._next(self._idle.popleft())
        if self._open:
            await asyncio.wait_for(self._done.wait(), self._job.seconds + _CONNECTIONS_WAIT_SECONDS)
        return time.perf_counter() - start

    def answered(self, connection: Connection, place: int, latency_s: float, failure: str | None) -> None:
        """Take one answer, and ask the next."""
        self.answers.latency_s[place] = latency_s
        if failure is not None:
            self.answers.failures.append(failure)
        self._open -= 1
        self._next(connection)
        if not self._open:
            self._done.set()

    def lost(self, failure: str) -> None:
        """Take a connection that is gone while requests are open."""
        if self._open:
            self.answers.failures.append(failure)
            self._done.set()

    async def _send_when_due(self, start: float) -> None:
        count = min(len(self._requests), int(self._job.rate * self._job.seconds))
        for place in range(count):
            due = start + place / self._job.rate
            now = time.perf_counter()
            if due > now:
                await asyncio.sleep(due - now)
            if self._idle:
                self._send(self._idle.popleft(), place, due)
            else:
                self._due.append((place, due))
        self._deadline = 0.0

    def _next(self, connection: Connection) -> None:
        if self._due:
            self._send(connection, *self._due.popleft())
        elif self._job.rate or time.perf_counter() >= self._deadline or self.answers.sent >= len(self._requests):
            self._idle.append(connection)
        else:
            self._send(connection, self.answers.sent, time.perf_counter())

    def _send(self, connection: Connection, place: int, since: float) -> None:
        self.answers.sent = max(self.answers.sent, place + 1)
        self._open += 1
        self._done.clear()
        connection.ask(place, self._requests[place], since)


def main(job_file: Path, out: Path) -> None:
    """Run a job and write what came back."""
    job = LoadJob.model_validate_json(job_file.read_bytes())
    load = None

    async def work() -> float:
        nonlocal load
        load = Load(job, np.load(job.sequence))
        return await load.run()

    cpu = time.process_time()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        seconds = runner.run(work())
    assert load is not None
    answers = load.answers
    np.savez(
        out,
        latency_s=answers.latency_s[: answers.sent],
        seconds=seconds,
        cpu_s=time.process_time() - cpu,
        failures=np.array(answers.failures, dtype=str),
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
