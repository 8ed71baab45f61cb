"""What this worker serves: the live entry of each model, replaced only after what it newly needs is loaded."""

import asyncio
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from registry.errors import BurnishError, ModelNotFound, TransientError
from registry.records.release import CatalogEntry
from registry.records.tenant import qualified, split_name
from serving.engine.comparison import Comparison
from serving.engine.residency import RETRY_SECONDS, Residency
from serving.engine.response_cache import ResponseCache
from serving.engine.slot import ShadowTarget, Slot
from serving.engine.traffic import choose, favourite

_log = logging.getLogger(__name__)
_NOTHING: Mapping[str, "LiveModel"] = {}


@dataclass(frozen=True, slots=True)
class LiveModel:
    """One model's entry in force, with the slot of each of its versions."""

    entry: CatalogEntry
    slots: dict[int, Slot]

    @property
    def champion(self) -> int | None:
        """The version with the greatest share; None while nothing is live."""
        return favourite(self.entry.split) if self.entry.split else None

    def answering(self) -> set[Slot]:
        """The slots that the split sends traffic to."""
        weights = self.entry.split.weights if self.entry.split else {}
        return {self.slots[version] for version, weight in weights.items() if weight > 0}

    def comparisons(self) -> list[dict[str, Any]]:
        """What the shadow found under this entry, for each version that it was compared with."""
        targets = (slot.shadow for slot in self.slots.values() if slot.shadow is not None)
        found = [target.comparison for target in targets]
        return [comparison.figures() for comparison in found if comparison.compared or comparison.failed]

    def shadow_of(self, slot: Slot) -> ShadowTarget | None:
        """Return what computes a version's requests again, with nothing compared yet; None for the shadow itself."""
        shadow = self.entry.shadow
        if shadow is None or shadow.version == slot.served.version:
            return None
        comparison = Comparison(slot.served.version, shadow.version)
        return ShadowTarget(self.slots[shadow.version], shadow.percent / 100, comparison)


@dataclass(frozen=True)
class Refusal:
    """An entry that could not be taken, why, and when it is tried again (monotonic seconds)."""

    entry: CatalogEntry
    reason: str
    retry_at: float


class Live:
    """Model -> what answers for it. Entries of one model are taken one after the other, the latest wins."""

    def __init__(self, residency: Residency) -> None:
        """Take where versions are loaded."""
        self.models: dict[str, LiveModel] = {}
        """By qualified name; changed by ``_put`` and ``_take_out`` only."""
        self._named: dict[str, dict[str, LiveModel]] = {}
        """The same by tenant, and then by the name that the tenant gives it."""
        self.refusals: dict[str, Refusal] = {}
        self._residency = residency
        self._caches: dict[str, ResponseCache] = {}
        self._offered: dict[str, CatalogEntry | None] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}

    @property
    def cached_bytes(self) -> int:
        """What the response caches of all models hold."""
        return sum(cache.bytes for cache in self._caches.values())

    def route(self, model: str, version: int | None, unit_id: str, tenant: str | None = None) -> Slot:
        """Return the slot that answers a unit: the version asked for, else the one that the split chooses.

        Raises:
            ModelNotFound: there is no such model or version, or nothing of it is live.
            TransientError: the model is known but none of its entries could be taken yet.
        """
        live = self.model(model, tenant)
        if version is None:
            split = live.entry.split
            if split is None:
                raise ModelNotFound(f"no version of {model} is live; name one of {sorted(live.slots)}")
            return live.slots[choose(split, unit_id)]
        slot = live.slots.get(version)
        if slot is None:
            raise ModelNotFound(f"{model} has no version {version}; there are {sorted(live.slots)}")
        return slot

    def named(self, tenant: str | None) -> Mapping[str, LiveModel]:
        """Return a tenant's models by the names that it gives them, or without a tenant all by qualified name."""
        return self.models if tenant is None else self._named.get(tenant, _NOTHING)

    def model(self, model: str, tenant: str | None = None) -> LiveModel:
        """Return what is live of a model, named as its tenant does, or without a tenant by its qualified name.

        Raises:
            ModelNotFound: there is no such model, or it is another tenant's.
            TransientError: it is known but none of its entries could be taken yet.
        """
        live = self.named(tenant).get(model)
        if live is not None:
            return live
        name = model if tenant is None else qualified(tenant, model)
        if tenant is None or split_name(name) == (tenant, model):  # or the name is one that no client may give
            if name in self.refusals:
                raise TransientError(self.refusals[name].reason)
            if name in self._tasks:
                raise TransientError(f"{model} is being loaded; try again shortly")
        raise ModelNotFound(f"there is no model {model:.200}")

    def adopt(self, entry: CatalogEntry) -> None:
        """Put an entry in force at once; its versions are loaded on first use."""
        before = self.models.get(entry.model)
        after = self._put(entry)
        same = before is not None and (before.entry.generation, before.entry.shadow) == (entry.generation, entry.shadow)
        cache = self._new_cache(entry)
        answering = after.answering() if entry.policy.pinned else set()
        for slot in after.slots.values():
            slot.policy, slot.cache = entry.policy, cache
            self._residency.pin(slot, slot in answering)
            if not same or slot.shadow is None:
                slot.shadow = after.shadow_of(slot)
        self.refusals.pop(entry.model, None)
        self._retire(before, after)
        _log.debug("serving %s at generation %s", entry.model, entry.generation)

    def offer(self, model: str, entry: CatalogEntry | None) -> None:
        """Take an entry as soon as what it newly sends traffic to is loaded; None takes the model out."""
        self._offered[model] = entry
        if model not in self._tasks:
            self._tasks[model] = asyncio.create_task(self._take(model))

    def retry(self) -> None:
        """Offer refused entries again whose time has come."""
        now = time.monotonic()
        for model, refusal in list(self.refusals.items()):
            if now >= refusal.retry_at and model not in self._tasks:
                self.offer(model, refusal.entry)

    async def settled(self) -> None:
        """Return when every entry offered so far is taken or refused."""
        while self._tasks:
            await asyncio.wait(list(self._tasks.values()))

    async def _take(self, model: str) -> None:
        try:
            while model in self._offered:
                entry = self._offered.pop(model)
                if entry is None:
                    self._retire(self._take_out(model), None)
                    self._caches.pop(model, None)
                    self.refusals.pop(model, None)
                else:
                    await self._prepare(entry)
        finally:
            del self._tasks[model]

    async def _prepare(self, entry: CatalogEntry) -> None:
        before = self.models.get(entry.model)
        after = self._bind(entry)
        held: list[Slot] = []
        try:
            stay = before.answering() if before and not entry.policy.pinned else set()
            for slot in after.answering() - stay:
                await self._residency.hold(slot)
                held.append(slot)
            self.adopt(entry)
        except BurnishError as error:
            refused = "%s stays as it is, generation %s is refused: %s"
            _log.error(refused, entry.model, entry.generation, error, extra={"model": entry.model})
            self.refusals[entry.model] = Refusal(entry, str(error), time.monotonic() + RETRY_SECONDS)
            self._retire(after, before)
        finally:
            for slot in held:
                self._residency.release(slot)

    def _put(self, entry: CatalogEntry) -> LiveModel:
        tenant, name = split_name(entry.model)
        live = self.models[entry.model] = self._named.setdefault(tenant, {})[name] = self._bind(entry)
        return live

    def _take_out(self, model: str) -> LiveModel | None:
        tenant, name = split_name(model)
        own = self._named.get(tenant, {})
        own.pop(name, None)
        if not own:
            self._named.pop(tenant, None)
        return self.models.pop(model, None)

    def _new_cache(self, entry: CatalogEntry) -> ResponseCache | None:
        self._caches.pop(entry.model, None)
        if not entry.policy.cache_mib:
            return None
        cache = self._caches[entry.model] = ResponseCache(entry.policy.cache_mib * 2**20)
        return cache

    def _bind(self, entry: CatalogEntry) -> LiveModel:
        return LiveModel(
            entry, {served.version: self._residency.slot(entry.model, served) for served in entry.versions}
        )

    def _retire(self, before: LiveModel | None, after: LiveModel | None) -> None:
        kept = set(after.slots.values()) if after else set()
        for slot in set(before.slots.values()) - kept if before else ():
            self._residency.retire(slot)
