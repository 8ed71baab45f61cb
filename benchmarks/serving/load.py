"""The load generator: one process for all servers, so that ratios are fair.

It reads jobs from standard input, one JSON document a line, and writes a line of figures for each. An HTTP request
costs it a tenth of what it costs a server; a gRPC call costs it about as much as a server.
"""

import asyncio
import sys
import time

import numpy as np
import psutil
import uvloop

from benchmarks.serving.figures import LoadJob, Round, Wire
from benchmarks.serving.load_grpc import open_grpc
from benchmarks.serving.load_http import open_http
from benchmarks.serving.tally import Tally

_DRAIN_SECONDS = 10.0


async def hold(job: LoadJob) -> Round:
    """Put load on a target for one round; a server that cannot be reached is an error of the round."""
    tally = Tally()
    try:
        return await _hold(job, tally)
    except (OSError, psutil.Error) as error:
        nothing = {"requests": 0, "p50_ms": 0, "p99_ms": 0, "server_cpu": 0, "client_cpu": 0}
        return Round(
            target=job.target.name,
            connections=job.connections,
            seconds=job.seconds,
            errors=tally.errors + 1,
            first_error=tally.first_error or f"{type(error).__name__}: {error}",
            **nothing,
        )


async def _hold(job: LoadJob, tally: Tally) -> Round:
    servers, client = [psutil.Process(pid) for pid in job.pids], [psutil.Process()]
    if job.target.wire is Wire.GRPC:
        calls = await open_grpc(job.target, job.connections, tally)
        close = _finished(calls)
    else:
        transports = await open_http(job.target, job.connections, tally)
        close = _closed(transports)
    await asyncio.sleep(job.warm_seconds)
    before, since = (_cpu_seconds(servers), _cpu_seconds(client)), time.perf_counter()
    tally.start()
    await asyncio.sleep(job.seconds)
    latencies_ms = np.array(tally.stop()) / 1e6
    took, after = time.perf_counter() - since, (_cpu_seconds(servers), _cpu_seconds(client))
    await close
    p50, p99 = np.percentile(latencies_ms, [50, 99]) if len(latencies_ms) else (0.0, 0.0)
    return Round(
        target=job.target.name,
        connections=job.connections,
        seconds=took,
        requests=len(latencies_ms),
        errors=tally.errors,
        first_error=tally.first_error,
        p50_ms=float(p50),
        p99_ms=float(p99),
        server_cpu=(after[0] - before[0]) / took,
        client_cpu=(after[1] - before[1]) / took,
    )


async def _closed(transports: list[asyncio.Transport]) -> None:
    """Wait until every connection has had its last answer; then hang up on those that had none."""
    deadline = time.monotonic() + _DRAIN_SECONDS
    while time.monotonic() < deadline and not all(one.is_closing() for one in transports):
        await asyncio.sleep(0.01)
    for one in transports:
        one.abort()


async def _finished(calls: list[asyncio.Task[None]]) -> None:
    await asyncio.wait(calls, timeout=_DRAIN_SECONDS)


def _cpu_seconds(processes: list[psutil.Process]) -> float:
    times = [process.cpu_times() for process in processes]
    return sum(one.user + one.system for one in times)


def main() -> None:
    """Hold rounds until standard input ends."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        for line in sys.stdin:
            done = runner.run(hold(LoadJob.model_validate_json(line)))
            sys.stdout.write(done.model_dump_json() + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
