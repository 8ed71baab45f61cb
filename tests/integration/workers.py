"""A real engine with two workers, started with the settings of one test module, and what is asked of it."""

import os
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil

from registry.records.model import PluginConfig, ServedVersion
from registry.records.release import CatalogEntry, Shadow, TrafficSplit
from registry.store.artifacts_local import LocalArtifacts
from serving.engine.catalog import write_entry
from tests.integration.processes import free_pair, free_ports
from tests.integration.test_engine_process import COMMAND, store_version

WAIT_SECONDS = 180.0
ODD_RUNTIME = Path(__file__).with_name("odd_runtime.py")


@dataclass(frozen=True)
class Workers:
    """Two workers behind their REST doors; version n of every model multiplies by n."""

    home: Path
    process: subprocess.Popen[bytes]
    doors: tuple[str, str]
    versions: tuple[ServedVersion, ...]

    def publish(
        self,
        model: str,
        generation: int,
        version: int,
        *,
        shadow: Shadow | None = None,
        runtime: PluginConfig | None = None,
    ) -> None:
        """Make a version of a model live, all of its versions on another runtime if one is given."""
        versions = self.versions
        if runtime is not None:
            versions = tuple(served.model_copy(update={"runtime": runtime}) for served in versions)
        split = TrafficSplit(weights={version: 100})
        entry = CatalogEntry(model=model, generation=generation, split=split, versions=versions, shadow=shadow)
        write_entry(self.home / "catalog", entry)

    def status(self, worker: int) -> dict[str, Any]:
        """What a worker says of itself; nothing while it does not answer."""
        try:
            found = httpx.get(f"{self.doors[worker]}/burnish/catalog", timeout=5)
        except httpx.TransportError:
            return {}
        return dict(found.json()) if found.status_code == 200 else {}

    def pid(self, worker: int) -> int:
        """The process of a worker."""
        return int(self.status(worker)["pid"])

    def generations(self, model: str) -> list[int]:
        """What each worker says that it serves; 0 where it knows nothing of the model."""
        states = [self.status(worker).get("models", {}) for worker in (0, 1)]
        return [int(state.get(model, {}).get("generation", 0)) for state in states]

    def ready(self, worker: int) -> bool:
        """True if a worker says that it is ready."""
        return _status(self.doors[worker], "/v2/health/ready") == 200

    def await_replacement(self, worker: int, pid: int) -> None:
        """Wait until another process is ready at the door of a worker."""
        until(lambda: self.ready(worker) and self.status(worker).get("pid") not in (None, pid), "it was replaced")


def until(condition: Callable[[], bool], what: str) -> None:
    """Wait until a condition holds, within a bound."""
    deadline = time.monotonic() + WAIT_SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain until {what}"
        time.sleep(0.05)


@contextmanager
def two_workers(home: Path, settings: Mapping[str, str] | None = None) -> Iterator[Workers]:
    """Start an engine whose runtimes include the odd one, with three versions stored; stop it at the end."""
    store = LocalArtifacts(home / "artifacts")
    versions = tuple(store_version(store, home / f"net{number}", number) for number in (1, 2, 3))
    for name in ("catalog", "empty", "bento"):
        (home / name).mkdir()
    door, (bento,) = free_pair(), free_ports(1)
    environment = {
        **os.environ,
        "BENTOML_DO_NOT_TRACK": "true",
        "BENTOML_HOME": str(home / "bento"),
        "PYTHONSAFEPATH": "1",
        "PYTHONPATH": str(_install_odd_runtime(home / "site")),
        "BURNISH_ENGINE_CATALOG_FOLDER": str(home / "catalog"),
        "BURNISH_ENGINE_ARTIFACTS_FOLDER": str(home / "artifacts"),
        "BURNISH_ENGINE_CAPTURE_FOLDER": str(home / "capture"),
        "BURNISH_ENGINE_DOOR_PORT": str(door),
        "BURNISH_ENGINE_WORKERS": "2",
        **(settings or {}),
    }
    with (home / "engine.log").open("wb") as log:
        command = [*COMMAND, "--host", "127.0.0.1", "--port", str(bento)]
        process = subprocess.Popen(command, env=environment, cwd=home / "empty", stdout=log, stderr=subprocess.STDOUT)
    workers = Workers(home, process, (f"http://127.0.0.1:{door}", f"http://127.0.0.1:{door + 10}"), versions)
    try:
        until(lambda: workers.ready(0) and workers.ready(1), "both workers are ready")
        yield workers
    finally:
        _stop(process)


def _install_odd_runtime(site: Path) -> Path:
    """Lay out the odd runtime as an installed package with its entry point."""
    metadata = site / "odd-1.0.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: odd\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text("[burnish.runtimes]\nodd_runtime = odd_runtime\n")
    (site / ODD_RUNTIME.name).write_text(ODD_RUNTIME.read_text())
    return site


def _stop(process: subprocess.Popen[bytes]) -> None:
    family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
    process.terminate()
    _, left = psutil.wait_procs(family, timeout=90)
    for survivor in left:
        survivor.kill()
    process.wait(30)
    assert left == [], "the engine left processes behind"


def _status(url: str, path: str) -> int:
    try:
        return httpx.get(url + path, timeout=5).status_code
    except httpx.TransportError:
        return 0
