import os
import threading
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from burnish.stack import workers
from burnish.stack.workers import EngineWorkers
from serving.gateway import files
from serving.gateway.plan import Endpoint

DOORS = (Endpoint(host="127.0.0.1", port=8100), Endpoint(host="127.0.0.1", port=8110))


class FakeEngine:
    """Two workers whose successors are ready a moment after them, and the gateway in front of them."""

    def __init__(self) -> None:
        self.serving = {0, 1}
        self.pids = {0: 10, 1: 11}
        self.outages = 0

    def answer(self, worker: int, path: str) -> Any:  # noqa: ANN401
        found = {"pid": self.pids[worker], "models": {}}
        return {"ready": True} if path.endswith("ready") else found

    def set_workers(self, _: Path, doors: Iterable[Endpoint]) -> None:
        self.serving = {DOORS.index(door) for door in doors}
        threading.Event().wait(0.05)

    def kill(self, pid: int, _: int) -> None:
        (worker,) = (worker for worker, known in self.pids.items() if known == pid)
        self.outages += worker in self.serving
        self.pids[worker] = pid + 10


def test_of_restarts_at_once_each_waits_for_the_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = FakeEngine()
    monkeypatch.setattr(workers, "_SETTLE_SECONDS", 0.05)
    monkeypatch.setattr(EngineWorkers, "_get", engine.answer)
    monkeypatch.setattr(files, "set_workers", engine.set_workers)
    monkeypatch.setattr(os, "kill", engine.kill)
    restarter = EngineWorkers(tmp_path, DOORS)
    with ThreadPoolExecutor(2) as pool:
        states = list(pool.map(restarter.restart, (0, 1)))
    assert [state.pid for state in states] == [20, 21]
    assert engine.outages == 0, "a worker was ended to which the gateway still sent requests"
    assert engine.serving == {0, 1}
