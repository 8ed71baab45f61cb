"""One worker: everything that lives in one engine process, from the first scan of the catalog to the last answer."""

import asyncio
import gc
import logging
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from registry.errors import ModelNotFound
from registry.records.tenant import is_qualified
from registry.store.base import ArtifactStore
from serving.engine.backlog import Backlog
from serving.engine.capture import Capture
from serving.engine.catalog import Catalog, CatalogChange
from serving.engine.crash_guard import CrashGuard
from serving.engine.failures import Failures
from serving.engine.gpu import Gpus
from serving.engine.infer import Engine, contain, contained
from serving.engine.live import Live
from serving.engine.loop_turns import LoopTurns
from serving.engine.preload import load_pinned, preload
from serving.engine.repository import Repository
from serving.engine.residency import Residency, ResidencyLimits
from serving.engine.retention import Retention
from serving.engine.runs import RunThreads
from serving.engine.shared_bound import SharedBound
from serving.engine.tenant_shares import LimitsFile
from serving.engine.tracing import Tracing
from serving.engine.upkeep import Upkeep
from serving.engine.usage import Usage
from serving.memory import keep_large_blocks_apart
from serving.settings import EngineSettings

_SWITCH_SECONDS = 0.0005
"""After so long a thread that waits for Python's lock is given it. A load takes the lock a dozen times: with Python's
own 5 ms, a busy event loop would draw each load out to tens of milliseconds."""
_log = logging.getLogger(__name__)


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
        self.boot = uuid4().hex
        """Names this process among all that ever were this worker: with it, counters begin at 0."""
        self.draining = False
        self.metrics_versions = settings.metrics_versions
        self.failures = Failures()
        self.tracing = _tracing(settings, index)
        self._runs = RunThreads(len(os.sched_getaffinity(0)))
        self.guard = CrashGuard(settings.state_folder, f"{settings.door_port}-{index}", settings.run_seconds, contained)
        gpus = Gpus.found(settings.gpu_share / settings.workers)
        limits = ResidencyLimits(
            settings.resident_mib, settings.max_waiting, settings.resident_threads, gpus.bounds if gpus else ()
        )
        self.residency = Residency(store, limits, contain, self._runs, self.guard.around, gpus)
        self.live = Live(self.residency)
        self.repository = Repository(self.live, self.residency)
        self._catalog_folder = settings.catalog_folder
        self.catalog = Catalog(settings.catalog_folder)
        self._limits = LimitsFile(settings.catalog_folder)
        self.capture = Capture(
            settings.capture_folder, settings.capture_rate, Retention(settings.capture_mib, settings.capture_days)
        )
        self.backlog = Backlog(settings.max_pending_mib * 2**20)
        self.engine = Engine(self.live, self.residency, self.capture, self.backlog)
        self.turns = LoopTurns(self.backlog)
        self.bodies = SharedBound(settings.max_reading_mib * 2**20)
        """What the doors have read of requests that are not whole yet."""
        self._usage = Usage(settings.state_folder / f"usage-{settings.door_port}-{index}.json")
        self._preload_share = settings.preload_share
        self._upkeep = Upkeep(self.residency.room, self._usage, self.live, self._bytes_in_use, settings.leak_mib)
        self._lasting: tuple[asyncio.Task[None], ...] = ()
        """What goes on until the worker is stopped."""
        self._preload: asyncio.Task[None] | None = None

    @property
    def recycle_reason(self) -> str | None:
        """Why this worker is to be replaced by another; None while it is well."""
        return self.guard.overdue() or self._upkeep.recycle_reason or self._ended()

    @property
    def ready(self) -> bool:
        """True once the catalog was read, until the worker is told to stop."""
        return bool(self._lasting) and not self.draining

    async def start(self) -> None:
        """Read the catalog (its folder is made if it is not there), put every entry in force, and follow changes.

        Pinned models are loaded before this returns; what was used most in earlier runs is loaded afterwards.
        """
        keep_large_blocks_apart()
        sys.setswitchinterval(_SWITCH_SECONDS)
        self._catalog_folder.mkdir(parents=True, exist_ok=True)
        gc.disable()  # thousands of entries are made, and none is garbage
        change = await asyncio.to_thread(self.catalog.scan)
        for entry in change.entries:
            self.live.adopt(entry)
        _log.info("serving %s models", len(change.entries))
        await asyncio.to_thread(self._usage.read)
        gc.freeze()  # later collections need not look at what stays
        gc.enable()
        await asyncio.to_thread(self.capture.prepare)
        await self._limit_tenants()
        await self.residency.prepare()
        await load_pinned(self.live, self.residency)
        ranking = self._usage.ranking()
        self._lasting = (
            asyncio.create_task(self._follow(), name="to follow the catalog"),
            asyncio.create_task(self._upkeep.run(), name="to look after the memory"),
        )
        self._preload = asyncio.create_task(preload(self.live, self.residency, ranking, self._preload_share))

    async def stop(self) -> None:
        """Stop following the catalog, unload everything and write what was captured."""
        self.draining = True
        tasks = [*self._lasting, *([self._preload] if self._preload else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self.live.settled()
        await self.engine.shadow.close()
        await self._usage.keep(self.live)
        await self.residency.close()
        self._runs.close()
        await asyncio.to_thread(self.capture.close)
        if self.tracing is not None:
            await asyncio.to_thread(self.tracing.close)

    def model_statuses(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield what this worker serves of each model that it knows when the first one is asked for."""
        for name in self.live.models.keys() | self.live.refusals.keys():
            if name in self.live.models or name in self.live.refusals:
                yield name, self._model_status(name)

    def status(self) -> dict[str, Any]:
        """What this worker does, beside the models that it serves."""
        return {
            "worker": self.identity.index,
            "pid": self.identity.pid,
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

    def resident(self) -> dict[str, Any]:
        """What is loaded, beside the memory that the process holds over what it held with nothing loaded."""
        room = self.residency.room
        return {
            "worker": self.identity.index,
            "pid": self.identity.pid,
            "versions": len(room),
            "loads": self.residency.loads.count,
            "evictions": room.evictions,
            "bytes": self.residency.resident_bytes,
            "process_bytes": room.budget.process_bytes,
            "bound_bytes": self.residency.budget_bytes,
            "recycle_reason": self.recycle_reason,
        }

    def usage(self) -> Iterator[tuple[str, dict[str, int]]]:
        """Yield what each model did in this process, by qualified name; those never asked for are left out."""
        accounts = list(self.residency.accounts.items())
        return ((name, account.figures()) for name, account in accounts if account.requests)

    def model_status(self, model: str) -> dict[str, Any]:
        """What this worker serves of one model, for whoever waits until every worker has taken a release.

        Raises:
            ModelNotFound: there is no such model.
        """
        if model not in self.live.models and model not in self.live.refusals:
            raise ModelNotFound(f"there is no model {model}")
        return self._model_status(model)

    async def look(self, model: str) -> dict[str, Any]:
        """Read a model's catalog file now, whatever the watch has seen, and say what this worker serves of it.

        What the file newly needs is loaded behind the answer: whoever asks again is told when it is served.

        Raises:
            ModelNotFound: there is no such model.
        """
        if self._lasting and is_qualified(model):
            self._offer(await asyncio.to_thread(self.catalog.look, (model,)))
        return self.model_status(model)

    def _model_status(self, model: str) -> dict[str, Any]:
        live, refusal = self.live.models.get(model), self.live.refusals.get(model)
        failure = next((slot.failure for slot in live.answering() if slot.failure), None) if live else None
        return {
            "generation": live.entry.generation if live else 0,
            "champion": live.champion if live else None,
            "versions": sorted(live.slots) if live else [],
            "error": refusal.reason if refusal else failure,
        }

    def _ended(self) -> str | None:
        """Say what has ended that should go on; None if nothing has."""
        for task in self._lasting:
            if task.done() and not task.cancelled():
                return f"the task {task.get_name()} has failed: {task.exception()!r}"
        return None

    def _bytes_in_use(self) -> int:
        return self.backlog.bytes + self.live.cached_bytes + self.capture.pending_bytes

    async def _follow(self) -> None:
        async for change in self.catalog.follow():
            self._offer(change)
            self.live.retry()
            await self._limit_tenants()

    def _offer(self, change: CatalogChange) -> None:
        """Offer what changed as it was last read: of two looks, the earlier may be heard of last."""
        for model in (*(entry.model for entry in change.entries), *change.removed):
            self.live.offer(model, self.catalog.entries.get(model))

    async def _limit_tenants(self) -> None:
        limits = await asyncio.to_thread(self._limits.look)
        if limits is not None:
            self.residency.room.limit_tenants(limits)


def _tracing(settings: EngineSettings, index: int) -> Tracing | None:
    """What makes traces; None where no collector is named."""
    if not settings.otlp_endpoint:
        return None
    return Tracing(settings.otlp_endpoint, settings.service_name, settings.trace_rate, index)
