"""The engine's workers, one by one: how each is, and how one is replaced without losing a request."""

import os
import signal
import time
from pathlib import Path
from typing import Any

import httpx

from registry.errors import InputError, TransientError
from registry.file_lock import file_lock
from registry.records.base import Record
from serving.gateway import files
from serving.gateway.plan import Endpoint

REPLACE_SECONDS = 120.0
"""A new worker is ready after this time at the latest, or something is wrong."""

_RESTART_LOCK = "restart.lock"
_SETTLE_SECONDS = 0.5
# Envoy takes a new file of endpoints within milliseconds.
_POLL_SECONDS = 0.1
_TIMEOUT_SECONDS = 5.0


class WorkerState(Record):
    """One worker of the engine."""

    worker: int
    ready: bool
    pid: int | None = None
    models: int = 0
    refused: tuple[str, ...] = ()
    """Models of which something cannot be served as the catalog says, each with the reason."""


class EngineWorkers:
    """The workers behind a gateway, by their REST doors in order."""

    def __init__(self, gateway_folder: Path, doors: tuple[Endpoint, ...]) -> None:
        """Take where the gateway's files are, and the doors."""
        self._folder = gateway_folder
        self._doors = doors

    def states(self) -> tuple[WorkerState, ...]:
        """Ask every worker how it is."""
        return tuple(self.state(worker) for worker in range(len(self._doors)))

    def state(self, worker: int) -> WorkerState:
        """Ask one worker how it is.

        Raises:
            InputError: there is no such worker.
        """
        ready, found = self._get(worker, "/v2/health/ready"), self._get(worker, "/burnish/catalog")
        if found is None:
            return WorkerState(worker=worker, ready=False)
        models = found["models"]
        refused = tuple(f"{name}: {state['error']}" for name, state in models.items() if state["error"])
        return WorkerState(
            worker=worker, ready=bool(ready and ready["ready"]), pid=found["pid"], models=len(models), refused=refused
        )

    def restart(self, worker: int, *, timeout_s: float = REPLACE_SECONDS) -> WorkerState:
        """Take a worker out of the gateway, let it finish what it has, and put its successor in; return that one.

        Of several who ask at once, one after the other gets it: two would take out what the other leaves to serve.

        Raises:
            InputError: there is no such worker, it does not answer, or no other one is ready to serve meanwhile.
            TransientError: no new worker was ready in time, or others restarted workers for so long.
        """
        with file_lock(self._folder / _RESTART_LOCK, wait_s=timeout_s):
            return self._restart(worker, timeout_s)

    def _restart(self, worker: int, timeout_s: float) -> WorkerState:
        before = self.state(worker)
        if before.pid is None:
            raise InputError(f"worker {worker} does not answer, so there is nothing to restart; see `burnish status`")
        if not any(state.ready for state in self.states() if state.worker != worker):
            raise InputError(f"no other worker than {worker} is ready, so to restart it would interrupt what is served")
        others = tuple(door for index, door in enumerate(self._doors) if index != worker)
        files.set_workers(self._folder, others)
        try:
            time.sleep(_SETTLE_SECONDS)
            os.kill(before.pid, signal.SIGTERM)
            deadline = time.monotonic() + timeout_s
            while not self._replaced(state := self.state(worker), before.pid):
                if time.monotonic() > deadline:
                    raise TransientError(
                        f"no new worker {worker} was ready after {timeout_s:.0f} s; see `logs/engine.log`"
                    )
                time.sleep(_POLL_SECONDS)
        finally:
            files.set_workers(self._folder, self._doors)
        return state

    @staticmethod
    def _replaced(state: WorkerState, pid: int) -> bool:
        return state.ready and state.pid != pid

    def _get(self, worker: int, path: str) -> Any:  # noqa: ANN401
        if not 0 <= worker < len(self._doors):
            raise InputError(f"there is no worker {worker}; there are 0 to {len(self._doors) - 1}")
        door = self._doors[worker]
        try:
            answer = httpx.get(f"http://{door.host}:{door.port}{path}", timeout=_TIMEOUT_SECONDS, trust_env=False)
            return answer.json()
        except (httpx.TransportError, ValueError):
            return None
