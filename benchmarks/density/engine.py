"""The engine as it runs, with one worker, watched from outside."""

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil

from benchmarks.ports import free_ports
from serving.settings import bento_environment

_READY_SECONDS = 120.0
_SAMPLE_SECONDS = 0.02
_POLL_SECONDS = 0.02
_STOP_SECONDS = 40.0
COMMAND = (sys.executable, "-P", "-m", "bentoml", "serve", "serving.doors.bento:EngineService")


@dataclass
class Engine:
    """A running engine of one worker."""

    port: int
    start_s: float
    baseline_bytes: int
    """What the worker held with nothing loaded."""
    worker: psutil.Process
    http: httpx.Client
    peak_bytes: int = 0
    """The most that samples have seen over the baseline."""
    _stop: threading.Event = field(default_factory=threading.Event)

    def resident(self) -> dict[str, int]:
        """Return what the worker says of its budget."""
        found: dict[str, int] = self.http.get("/burnish/resident").raise_for_status().json()
        return found

    def cpu_s(self) -> float:
        """Return the processor time that the worker has used."""
        times = self.worker.cpu_times()
        return float(times.user + times.system)

    def held_bytes(self) -> int:
        """Return the worker's resident set over its baseline."""
        return int(self.worker.memory_info().rss) - self.baseline_bytes

    def ask(self, model: str, width: int) -> float:
        """Ask one model once; return the seconds that it took."""
        body = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, width], "data": [0.5] * width}]}
        start = time.perf_counter()
        self.http.post(f"/v2/models/{model}/infer", json=body).raise_for_status()
        return time.perf_counter() - start

    def watch(self) -> None:
        """Sample the memory until the engine is stopped."""
        while not self._stop.wait(_SAMPLE_SECONDS):
            self.peak_bytes = max(self.peak_bytes, self.held_bytes())

    def stop_watching(self) -> None:
        """End the samples."""
        self._stop.set()


@contextmanager
def running(home: Path, resident_mib: int) -> Iterator[Engine]:
    """Start an engine on a folder with catalog and artifacts, and stop it with all that it started."""
    port, bento_port = free_ports([(0, 1), (0,)])
    start = time.perf_counter()
    process = _spawn(home, port, bento_port, resident_mib)
    watcher = None
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as http:
            _wait_until_ready(http, process, home)
            start_s = time.perf_counter() - start
            status = http.get("/burnish/resident").raise_for_status().json()
            worker = psutil.Process(status["pid"])
            baseline = int(worker.memory_info().rss) - status["process_bytes"]
            engine = Engine(port, start_s, baseline, worker, http)
            watcher = threading.Thread(target=engine.watch)
            watcher.start()
            yield engine
            engine.stop_watching()
            watcher.join()
            watcher = None
    finally:
        if watcher is not None:
            engine.stop_watching()
            watcher.join()
        _end(process)


def _spawn(home: Path, port: int, bento_port: int, resident_mib: int) -> "subprocess.Popen[bytes]":
    environment: dict[str, Any] = {
        **bento_environment(home / "bento"),
        "PYTHONSAFEPATH": "1",
        "BURNISH_ENGINE_CATALOG_FOLDER": str(home / "catalog"),
        "BURNISH_ENGINE_ARTIFACTS_FOLDER": str(home / "artifacts"),
        "BURNISH_ENGINE_CAPTURE_FOLDER": str(home / "capture"),
        "BURNISH_ENGINE_CAPTURE_RATE": "0.01",
        "BURNISH_ENGINE_DOOR_PORT": str(port),
        "BURNISH_ENGINE_WORKERS": "1",
        "BURNISH_ENGINE_RESIDENT_MIB": str(resident_mib),
    }
    (home / "empty").mkdir(exist_ok=True)
    with (home / "engine.log").open("wb") as log:
        return subprocess.Popen(
            [*COMMAND, "--host", "127.0.0.1", "--port", str(bento_port)],
            env=environment,
            cwd=home / "empty",
            stdout=log,
            stderr=subprocess.STDOUT,
        )


def _wait_until_ready(http: httpx.Client, process: "subprocess.Popen[bytes]", home: Path) -> None:
    deadline = time.monotonic() + _READY_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if http.get("/v2/health/ready").status_code == httpx.codes.OK:
                return
        except httpx.TransportError:
            pass
        time.sleep(_POLL_SECONDS)
    raise RuntimeError(f"the engine is not ready; see {home / 'engine.log'}")


def _end(process: "subprocess.Popen[bytes]") -> None:
    if process.poll() is not None:
        return
    family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
    process.terminate()
    _, left = psutil.wait_procs(family, timeout=_STOP_SECONDS)
    for each in left:
        each.kill()
    process.wait(_STOP_SECONDS)
