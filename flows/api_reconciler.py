"""Repairs catalog and mirrors from the ledger, at start and every few seconds, and settles lost flow runs."""

import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from flows.api_prefect import Deployments
from flows.following import NOT_LOOKED, Following
from registry.errors import BurnishError, TransientError
from registry.ledger.ledger import Ledger
from registry.records.release import OptimizationState, OptimizationStatus
from registry.store.base import ModelStore

INTERVAL_S = 10.0
GATHER_S = 0.5
"""So long a round that was asked for is put off: one round does for all changes that come in between."""

WHOLE_SHARE = 0.05
"""To look at all of the model store takes no more than this share of the time, however many models there are."""

_LOST = ("FAILED", "CRASHED", "CANCELLED")
_PASSING = (BurnishError, OSError)
"""What ends a step of a round and not the thread: a ledger that is away, a full disk; the next round tries again."""

_START_GRACE = timedelta(minutes=1)
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Findings:
    """What one round found."""

    mirrors: str = NOT_LOOKED
    notes: tuple[str, ...] = ()


class Reconciler:
    """One thread that compares ledger, catalog, mirrors and flow runs, and repairs what follows the ledger."""

    def __init__(
        self,
        ledger: Ledger,
        store: ModelStore,
        deployments: Deployments,
        catalog_folder: Path,
        *,
        further: Sequence[Callable[[], object]] = (),
        told: Sequence[Callable[[], Iterable[str]]] = (),
    ) -> None:
        """Keep what is compared, what further is done each round, and who has notes; nothing runs before ``start``."""
        self._ledger = ledger
        self._following = Following(ledger, store, catalog_folder)
        self._deployments = deployments
        self._further = tuple(further)
        self._told = tuple(told)
        self._changed: set[str] = set()
        self._due = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="reconciler", daemon=True)
        self.findings = Findings()

    @property
    def running(self) -> bool:
        """True while the thread lives."""
        return self._thread.is_alive()

    def start(self) -> None:
        """Start the thread; its first round begins at once."""
        self._thread.start()

    def wake(self, model: str) -> None:
        """Let the mirrors follow a model whose route has just changed now rather than after the interval."""
        self._changed.add(model)
        self._due.set()

    def stop(self, wait_s: float = 5.0) -> None:
        """End the thread after the round it is in."""
        self._stopping.set()
        self._due.set()
        self._thread.join(wait_s)

    def look(self, *, whole: bool = True) -> Findings:
        """Do one round: over all of the model store, or only over what has changed in the ledger."""
        notes = list(self._followed(self._following.repair(whole=whole)))
        notes.extend(self._do_further())
        notes.extend(note for tell in self._told for note in tell())
        try:
            notes.extend(self._settle_lost_runs())
        except _PASSING as error:
            notes.append(str(error))
        return Findings(mirrors=self._following.mirrors, notes=tuple(dict.fromkeys(notes)))

    def follow(self) -> Findings:
        """Look only at the models that it was woken for; what the last round found of the others still stands."""
        changed = [self._changed.pop() for _ in range(len(self._changed))]
        notes = [*self.findings.notes, *self._followed(self._following.follow(changed))]
        return Findings(mirrors=self._following.mirrors, notes=tuple(dict.fromkeys(notes)))

    def _run(self) -> None:
        round_due = whole_due = 0.0
        while not self._stopping.is_set():
            began = time.monotonic()
            if began < round_due:
                self._tell(self.follow())
            else:
                whole = began >= whole_due
                self._tell(self.look(whole=whole))
                ended = time.monotonic()
                round_due = ended + INTERVAL_S
                if whole:
                    whole_due = began + max(INTERVAL_S, (ended - began) / WHOLE_SHARE)
            self._due.wait(max(0.0, round_due - time.monotonic()))
            self._stopping.wait(GATHER_S)
            self._due.clear()

    def _tell(self, found: Findings) -> None:
        known = set(self.findings.notes)
        for note in found.notes:
            if note not in known:
                _log.warning(note)
        self.findings = found

    def _followed(self, steps: Iterator[str]) -> Iterator[str]:
        """Pass on what is told of steps; where they fail, the next round goes by what is in the ledger."""
        try:
            yield from steps
        except _PASSING as error:
            self._following.mirrors = f"cannot be looked at: {error}"
            yield str(error)

    def _do_further(self) -> Iterator[str]:
        for step in self._further:
            try:
                step()
            except _PASSING as error:
                yield str(error)

    def _settle_lost_runs(self) -> Iterator[str]:
        """Close optimizations whose flow run ended without saying so, such as after a kill -9."""
        for status in self._ledger.listings.open_optimizations():
            try:
                reason = self._why_lost(status)
            except TransientError as error:
                yield f"optimizations cannot be followed: {error}"
                return
            if reason and self._still_open(status.id):
                self._close(status, reason)
                yield f"the optimization {status.id} of {status.model} was closed: {reason}"

    def _why_lost(self, status: OptimizationStatus) -> str | None:
        run = self._deployments.find(run_id=status.flow_run, key=status.id)
        if run is not None and status.state is OptimizationState.CANCELLING:
            self._deployments.cancel(run)  # asked for while Prefect was down, or not heard by the runner
        if run is not None:
            return f"its flow run ended as {run.state}; see {run.url}" if run.state_type in _LOST else None
        young = datetime.now(UTC) - status.created_at < _START_GRACE
        if status.state is OptimizationState.RUNNING or young:
            return None
        return "it was never started; start it again"

    def _still_open(self, optimization_id: str) -> bool:
        """Read again: a run may have written its end just before Prefect was asked."""
        return self._ledger.optimization(optimization_id).state.open

    def _close(self, status: OptimizationStatus, reason: str) -> None:
        cancelled = status.state is OptimizationState.CANCELLING
        state = OptimizationState.CANCELLED if cancelled else OptimizationState.FAILED
        closed = {"state": state, "message": reason, "updated_at": datetime.now(UTC)}
        self._ledger.save_optimization(status.model_copy(update=closed))
