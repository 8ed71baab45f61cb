"""Free ports, waiting with a bound, and ending a process with all that it started."""

import os
import subprocess
import time
from collections.abc import Callable, Sequence

import psutil

from benchmarks import ports

_given: set[int] = set()
"""Every port that a test of this process was given: the server behind it may be down for a moment, or not up yet."""


def free_ports(count: int) -> list[int]:
    """Ports that nothing listens on now, all different."""
    return _free_ports([(0,)] * count)


def free_pair() -> int:
    """A free port for the REST door of the first of two workers; those of the other three doors are free as well."""
    return _free_ports([(0, 1, 10, 11)])[0]


def _free_ports(spans: Sequence[Sequence[int]]) -> list[int]:
    """Ports of the share of this process: those that run tests beside it look elsewhere."""
    number = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    share = len(ports.PORTS) // int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    found = ports.free_ports(spans, ports.PORTS[number * share : (number + 1) * share], _given)
    _given.update(port + distance for port, span in zip(found, spans, strict=True) for distance in span)
    return found


def wait_for(condition: Callable[[], bool], what: str, seconds: float = 90.0) -> None:
    """Wait until a condition holds, and fail the test when it does not in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited {seconds} s for {what}"
        time.sleep(0.05)


def end_tree(process: subprocess.Popen[bytes]) -> None:
    """Stop a process of ours and its children: politely, then for good."""
    try:
        tree = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
    except psutil.NoSuchProcess:
        return
    process.terminate()
    _, alive = psutil.wait_procs(tree, timeout=15)
    for each in alive:
        each.kill()
    process.wait(10)
