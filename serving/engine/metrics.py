"""Metrics: everything that one worker counts, written for Prometheus when it is asked for.

Requests touch plain counters only; families, labels and text are made here.
"""

from collections.abc import Callable, Iterator
from itertools import chain
from typing import Literal, NamedTuple

from prometheus_client import CollectorRegistry, GCCollector, ProcessCollector

from serving.engine.exposition import Exposition, Family
from serving.engine.series import SeriesTable
from serving.engine.slot import Slot
from serving.engine.statistics import BOUNDS_NS
from serving.engine.version_metrics import COUNTERS, DISTRIBUTIONS, GENERATION, PENDING, write_row
from serving.engine.worker import Worker

OTHER = "_other"
"""Model, version and tenant of the series that stands for all versions without one of their own."""

_NS_PER_S = 1e9
_BOUNDS_S = tuple(bound / _NS_PER_S for bound in BOUNDS_NS)


class WorkerFigure(NamedTuple):
    """One figure of a whole worker."""

    family: Family
    read: Callable[[Worker], float]


def _figure(name: str, kind: Literal["counter", "gauge"], text: str, read: Callable[[Worker], float]) -> WorkerFigure:
    return WorkerFigure(Family(name, kind, text), read)


FIGURES = (
    _figure("burnish_ready", "gauge", "1 while the worker takes requests.", lambda w: int(w.ready)),
    _figure("burnish_models", "gauge", "Models whose entries are in force.", lambda w: len(w.live.models)),
    _figure("burnish_refused_models", "gauge", "Models with a refused entry.", lambda w: len(w.live.refusals)),
    _figure("burnish_broken_files", "gauge", "Catalog files that cannot be read.", lambda w: len(w.catalog.broken)),
    _figure("burnish_resident_bytes", "gauge", "Measured memory of versions.", lambda w: w.residency.resident_bytes),
    _figure("burnish_resident_versions", "gauge", "Loaded versions.", lambda w: w.residency.resident_versions),
    _figure("burnish_budget_bytes", "gauge", "What loaded versions may take.", lambda w: w.residency.budget_bytes),
    _figure("burnish_load_failures_total", "counter", "Failed loads.", lambda w: w.residency.failed_loads),
    _figure("burnish_evictions_total", "counter", "Unloaded for the budget.", lambda w: w.residency.evictions),
    _figure("burnish_captured_requests_total", "counter", "Sampled and written.", lambda w: w.capture.written),
    _figure("burnish_capture_dropped_total", "counter", "Sampled but not kept.", lambda w: w.capture.dropped),
    _figure("burnish_capture_removed_files_total", "counter", "Too old or too many.", lambda w: w.capture.removed),
    _figure("burnish_capture_pending_bytes", "gauge", "Sampled, to be written.", lambda w: w.capture.pending_bytes),
    _figure("burnish_shadow_compared_total", "counter", "Pairs compared.", lambda w: w.engine.shadow.compared),
    _figure("burnish_shadow_agreed_total", "counter", "Pairs that agreed.", lambda w: w.engine.shadow.agreed),
    _figure("burnish_shadow_shed_total", "counter", "Not compared for want of room.", lambda w: w.engine.shadow.shed),
    _figure("burnish_shadow_failed_total", "counter", "The shadow failed.", lambda w: w.engine.shadow.failed),
    _figure("burnish_spans_exported_total", "counter", "Sent.", lambda w: w.tracing.exported if w.tracing else 0),
    _figure("burnish_spans_dropped_total", "counter", "Not sent.", lambda w: w.tracing.dropped if w.tracing else 0),
)

FAILED = Family("burnish_failed_requests_total", "counter", "Requests that a door refused or failed, by its status.")
LOADS = Family("burnish_load_duration_seconds", "histogram", "Time of a load: bytes checked, session built, warmed up.")

FAMILIES = (
    *dict.fromkeys(counter.family for counter in COUNTERS),
    *(distribution.family for distribution in DISTRIBUTIONS),
    PENDING,
    GENERATION,
    LOADS,
    FAILED,
    *(figure.family for figure in FIGURES),
)
"""Everything of Burnish's own that a scrape holds; beside it stand Python's and the process's."""


class Metrics:
    """What one worker tells Prometheus."""

    def __init__(self, worker: Worker) -> None:
        """Take the worker."""
        self._worker = worker
        self._series = SeriesTable(worker.metrics_versions)
        self._process = CollectorRegistry()
        ProcessCollector(registry=self._process)
        GCCollector(registry=self._process)

    async def render(self) -> bytes:
        """Write everything; the loop has its turn in between where there are many versions."""
        worker = self._worker
        written = Exposition(f'worker="{worker.identity.index}"')
        for family in FAMILIES:
            written.declare(family)
        series = await self._series.scrape(self._slots())
        for slot, row, pending in series:
            labels = _labels(slot.name, slot.served.version, slot.tenant) if slot else _labels(OTHER, OTHER, OTHER)
            write_row(written, row, labels)
            written.add(PENDING, pending, labels)
        named = {one.slot.model: one.slot for one in series if one.slot is not None}
        for model, of_model in named.items():
            if model in worker.live.models:
                generation = worker.live.models[model].entry.generation
                written.add(GENERATION, generation, f'model="{of_model.name}",tenant="{of_model.tenant}"')
        loads = worker.residency.loads
        written.add_histogram(LOADS, _BOUNDS_S, loads.buckets, loads.ns / _NS_PER_S)
        for (door, status), count in sorted(worker.failures.counts.items()):
            written.add(FAILED, count, f'door="{door}",status="{status}"')
        for figure in FIGURES:
            written.add(figure.family, figure.read(worker))
        self._add_process(written)
        return written.text()

    def _slots(self) -> Iterator[Slot]:
        return chain.from_iterable(live.slots.values() for live in list(self._worker.live.models.values()))

    def _add_process(self, written: Exposition) -> None:
        for metric in self._process.collect():
            for sample in metric.samples:
                family = Family(sample.name, "counter" if metric.type == "counter" else "gauge", metric.documentation)
                labels = ",".join(f'{name}="{value}"' for name, value in sample.labels.items())
                written.add(family, sample.value, labels)


def _labels(model: str, version: int | str, tenant: str) -> str:
    return f'model="{model}",version="{version}",tenant="{tenant}"'
