"""Progress of one optimization, kept in the ledger for client and CLI."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from flows import wiring
from flows.settings import StackSettings
from registry.errors import ModelNotFound
from registry.ledger.ledger import Ledger
from registry.records.gate import GateDecision
from registry.records.optimization import CandidateResult, CandidateStatus, OptimizationRequest
from registry.records.release import OptimizationState, OptimizationStatus
from registry.store.base import ArtifactStore
from tasks.optimizer.output import read_best


class Cancelled(Exception):
    """Somebody has cancelled the optimization: its flow stops where it is."""


def queued(request: OptimizationRequest) -> OptimizationStatus:
    """Return the status of an optimization that waits for its flow run."""
    now = datetime.now(UTC)
    return OptimizationStatus(
        id=request.id,
        model=request.model,
        state=OptimizationState.QUEUED,
        source=request.source,
        evaluation_set=request.evaluation,
        created_at=now,
        updated_at=now,
    )


class Progress:
    """Writes the status of one optimization; every change is one upsert in the ledger."""

    def __init__(self, ledger: Ledger, request: OptimizationRequest, flow_run: str | None) -> None:
        """Mark the optimization as running.

        Raises:
            Cancelled: somebody has cancelled it before it began.
        """
        self._ledger = ledger
        self._done: set[str] = set()
        self._seen: set[str] = set()
        running = queued(request).model_copy(update={"state": OptimizationState.RUNNING, "flow_run": flow_run})
        try:
            created_at = ledger.optimization(request.id).created_at
        except ModelNotFound:  # started in the Prefect UI, not through the control API
            created_at = running.created_at
        self._keep(running.model_copy(update={"created_at": created_at}))

    def stage(self, name: str) -> None:
        """Enter a stage, such as ``candidates``."""
        self._save(stage=name)

    def candidate(self, result: CandidateResult) -> None:
        """Count a candidate once its answers were judged, or once it was lost."""
        self._seen.add(result.candidate.id)
        if result.status is CandidateStatus.PENDING:  # the plan, told before the first one is built
            return
        self._done.add(result.candidate.id)
        self._save(candidates_done=len(self._done), candidates_total=len(self._seen), message=result.candidate.label)

    def keep_result(self, digest: str) -> None:
        """Remember where result.json and report.html are."""
        self._save(result=digest)

    def end(
        self,
        state: OptimizationState,
        message: str,
        *,
        gate: GateDecision | None = None,
        version: int | None = None,
    ) -> OptimizationStatus:
        """Close the optimization with its outcome."""
        self._save(state=state, message=message, gate=gate or self.status.gate, version=version or self.status.version)
        return self.status

    def _save(self, **changes: object) -> None:
        changed = self.status.model_dump() | changes | {"updated_at": datetime.now(UTC)}
        self._keep(OptimizationStatus.model_validate(changed))

    def _keep(self, status: OptimizationStatus) -> None:
        self.status = self._ledger.save_optimization(status)
        if self.status.state.stopped:
            raise Cancelled("the optimization was cancelled")


def close_abandoned(flow: Any, flow_run: Any, state: Any) -> None:  # noqa: ANN401  a hook of Prefect
    """Close an optimization whose run failed, crashed or was cancelled before it could say so itself."""
    settings = StackSettings()
    ledger = wiring.ledger(settings)
    try:
        status = ledger.optimization(flow_run.parameters["request"]["id"])
        if not status.state.open:
            return
        if status.state is OptimizationState.CANCELLING or state.is_cancelled():
            close_cancelled(ledger, wiring.artifacts(settings), settings.work_folder / status.id, status)
        else:
            message = f"the flow run ended early ({state.name}): {state.message or 'no reason given'}"
            _close(ledger, status, OptimizationState.FAILED, message)
    finally:
        ledger.close()


def close_cancelled(ledger: Ledger, artifacts: ArtifactStore, workspace: Path, status: OptimizationStatus) -> None:
    """Close an optimization that was cancelled, and keep the best that its search had found."""
    found = read_best(workspace / "search")
    if found is None:
        _close(ledger, status, OptimizationState.CANCELLED, "cancelled before a candidate was measured")
        return
    best, artifact = found
    digest = artifacts.put(artifact.folder)
    message = f"cancelled; the best until then, {best.candidate.label}, is kept as the artifact {digest[:12]}"
    _close(ledger, status.model_copy(update={"best": digest}), OptimizationState.CANCELLED, message)


def _close(ledger: Ledger, status: OptimizationStatus, state: OptimizationState, message: str) -> None:
    ended = {"state": state, "message": message, "updated_at": datetime.now(UTC)}
    ledger.save_optimization(status.model_copy(update=ended))
