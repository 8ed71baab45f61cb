"""The repository as clients see it: which models and versions there are, their state, loading and unloading them.

A tenant sees its own models by the names that it gives them; without a tenant all are there, by qualified name.
"""

from collections.abc import Iterator
from typing import NamedTuple

from registry.errors import ModelNotFound
from serving.engine.live import Live, LiveModel
from serving.engine.residency import Residency
from serving.engine.statistics import Statistics

READY = "READY"
UNAVAILABLE = "UNAVAILABLE"


class IndexEntry(NamedTuple):
    """One version of one model; the states are Triton's."""

    model: str
    version: int
    state: str
    reason: str


class VersionStatistics(NamedTuple):
    """The counters of one version in this worker."""

    model: str
    version: int
    statistics: Statistics


class Repository:
    """Every model that this worker knows."""

    def __init__(self, live: Live, residency: Residency) -> None:
        """Take what is live and where it is loaded."""
        self._live = live
        self._residency = residency

    def index(self, tenant: str | None = None, *, ready: bool = False) -> Iterator[IndexEntry]:
        """Yield every version, or only those that can answer. A version that is not loaded is when it is asked."""
        for name, live in self._models(tenant):
            for number, slot in sorted(live.slots.items()):
                if not (ready and slot.failure):
                    yield IndexEntry(name, number, UNAVAILABLE if slot.failure else READY, slot.failure or "")

    def version(self, model: str, version: int | None, tenant: str | None = None) -> tuple[LiveModel, int]:
        """Return a model and the version meant: the one asked for, else the champion, else the newest.

        Raises:
            ModelNotFound: there is none.
            TransientError: the model is known but none of its entries could be taken yet.
        """
        live = self._live.model(model, tenant)
        number = version or live.champion or max(live.slots, default=None)
        if number not in live.slots:
            raise ModelNotFound(f"{model} has no version {number}; there are {sorted(live.slots)}")
        return live, number

    def ready(self, model: str, version: int | None, tenant: str | None = None) -> bool:
        """True if a version, or without one the champion, can answer.

        Raises:
            ModelNotFound: there is none.
            TransientError: the model is known but none of its entries could be taken yet.
        """
        live, number = self.version(model, version, tenant)
        if version is None and live.champion is None:
            raise ModelNotFound(f"{model} has no live version; there are {sorted(live.slots)}")
        return live.slots[number].failure is None

    def statistics(
        self, model: str | None, version: int | None, tenant: str | None = None
    ) -> Iterator[VersionStatistics]:
        """Yield the counters of every version, of one model's, or of one.

        Raises:
            ModelNotFound: there is no such model or version.
            TransientError: the model is known but none of its entries could be taken yet.
        """
        for name, live in self._models(tenant) if model is None else ((model, self._live.model(model, tenant)),):
            numbers = sorted(live.slots) if version is None else (self.version(name, version, tenant)[1],)
            for number in numbers:
                yield VersionStatistics(name, number, live.slots[number].statistics)

    def _models(self, tenant: str | None) -> Iterator[tuple[str, LiveModel]]:
        """Yield every model as it is when the first one is asked for, by name."""
        models = dict(self._live.named(tenant))
        return ((name, models[name]) for name in sorted(models))

    async def load(self, model: str, tenant: str | None = None) -> None:
        """Load what the model's split sends traffic to.

        Raises:
            ModelNotFound: there is no such model.
            TransientError: a version cannot be loaded now.
        """
        for slot in self._live.model(model, tenant).answering():
            await self._residency.hold(slot)
            self._residency.release(slot)

    def unload(self, model: str, tenant: str | None = None) -> None:
        """Give back the memory of every version that no request holds; the next request loads it again.

        Raises:
            ModelNotFound: there is no such model.
            TransientError: the model is known but none of its entries could be taken yet.
        """
        for slot in self._live.model(model, tenant).slots.values():
            self._residency.evict(slot)
