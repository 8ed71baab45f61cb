"""One worker: everything that lives in one engine process, from the first scan of the catalog to the last answer."""

import asyncio
import contextlib
import os
from dataclasses import dataclass
from typing import Any

from registry.store.base import ArtifactStore
from serving.engine.backlog import Backlog
from serving.engine.capture import Capture
from serving.engine.catalog import Catalog
from serving.engine.crash_guard import CrashGuard
from serving.engine.infer import Engine, contain, contained
from serving.engine.live import Live
from serving.engine.repository import Repository
from serving.engine.residency import Residency, ResidencyLimits
from serving.engine.retention import Retention
from serving.engine.runs import RunThreads
from serving.settings import EngineSettings


@dataclass(frozen=True)
class WorkerIdentity:
    """Which of the engine's workers this is."""

    index: int
    pid: int


class Worker:
    """Catalog, live models, residency and capture of one process, started and stopped together."""

    def __init__(self, settings: EngineSettings, store: ArtifactStore, index: int) -> None:
        """Take the settings, the store and the worker's index; nothing is read or started yet."""
        self.identity = WorkerIdentity(index, os.getpid())
        self.draining = False
        self.metrics_versions = settings.metrics_versions
        self._runs = RunThreads(len(os.sched_getaffinity(0)))
        limits = ResidencyLimits(settings.resident_mib, settings.max_waiting)
        self.guard = CrashGuard(settings.state_folder, f"{settings.door_port}-{index}", settings.run_seconds, contained)
        self.residency = Residency(store, limits, contain, self._runs, self.guard.around)
        self.live = Live(self.residency)
        self.repository = Repository(self.live, self.residency)
        self._catalog_folder = settings.catalog_folder
        self.catalog = Catalog(settings.catalog_folder)
        self.capture = Capture(
            settings.capture_folder, settings.capture_rate, Retention(settings.capture_mib, settings.capture_days)
        )
        self.engine = Engine(self.live, self.residency, self.capture, Backlog(settings.max_pending_mib * 2**20))
        self._follower: asyncio.Task[None] | None = None

    @property
    def ready(self) -> bool:
        """True once the catalog was read, until the worker is told to stop."""
        return self._follower is not None and not self.draining

    @property
    def recycle_reason(self) -> str | None:
        """Why this worker is to be replaced by another; None while it is well."""
        return self.guard.overdue()

    async def start(self) -> None:
        """Read the catalog (its folder is made if it is not there), put every entry in force, and follow changes."""
        self._catalog_folder.mkdir(parents=True, exist_ok=True)
        change = await asyncio.to_thread(self.catalog.scan)
        for entry in change.entries:
            self.live.adopt(entry)
        self._follower = asyncio.create_task(self._follow())

    async def stop(self) -> None:
        """Stop following the catalog, unload everything and write what was captured."""
        self.draining = True
        if self._follower is not None:
            self._follower.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._follower
        await self.live.settled()
        await self.engine.shadow.close()
        await self.residency.close()
        self._runs.close()
        await asyncio.to_thread(self.capture.close)

    def status(self) -> dict[str, Any]:
        """What this worker serves, for whoever waits until every worker has taken a release."""
        models: dict[str, dict[str, Any]] = {
            name: {
                "generation": live.entry.generation,
                "champion": live.champion,
                "versions": sorted(live.slots),
                "error": next((slot.failure for slot in live.answering() if slot.failure), None),
            }
            for name, live in self.live.models.items()
        }
        for name, refusal in self.live.refusals.items():
            nothing: dict[str, Any] = {"generation": 0, "champion": None, "versions": []}
            models[name] = {**models.get(name, nothing), "error": refusal.reason}
        return {
            "worker": self.identity.index,
            "pid": self.identity.pid,
            "models": models,
            "broken": dict(self.catalog.broken),
            "capture": {"written": self.capture.written, "dropped": self.capture.dropped},
            "shadow": self._shadow(),
        }

    def _shadow(self) -> dict[str, Any]:
        """What the shadows found so far, in all and by model; models without a pair are left out."""
        shadow = self.engine.shadow
        live = self.live.models
        models = {name: found for name, model in live.items() if model.entry.shadow and (found := model.comparisons())}
        return {
            "compared": shadow.compared,
            "agreed": shadow.agreed,
            "shed": shadow.shed,
            "failed": shadow.failed,
            "written": shadow.written,
            "models": models,
        }

    async def _follow(self) -> None:
        async for change in self.catalog.follow():
            for entry in change.entries:
                self.live.offer(entry.model, entry)
            for model in change.removed:
                self.live.offer(model, None)
            self.live.retry()
