"""Progress of one optimization, kept in the ledger for client and CLI."""

from datetime import UTC, datetime
from typing import Any

from flows import wiring
from flows.settings import StackSettings
from registry.errors import ModelNotFound
from registry.ledger.ledger import Ledger
from registry.records.gate import GateDecision
from registry.records.optimization import CandidateResult, CandidateStatus, OptimizationRequest
from registry.records.release import OptimizationState, OptimizationStatus


class Progress:
    """Writes the status of one optimization; every change is one upsert in the ledger."""

    def __init__(self, ledger: Ledger, request: OptimizationRequest, flow_run: str | None) -> None:
        """Mark the optimization as running."""
        self._ledger = ledger
        self._done: set[str] = set()
        self._seen: set[str] = set()
        now = datetime.now(UTC)
        try:
            created_at = ledger.optimization(request.id).created_at
        except ModelNotFound:  # started in the Prefect UI, not through the control API
            created_at = now
        self.status = OptimizationStatus(
            id=request.id,
            model=request.model,
            state=OptimizationState.RUNNING,
            source=request.source,
            evaluation_set=request.evaluation,
            flow_run=flow_run,
            created_at=created_at,
            updated_at=now,
        )
        ledger.save_optimization(self.status)

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
        self.status = OptimizationStatus.model_validate(changed)
        self._ledger.save_optimization(self.status)


def close_abandoned(flow: Any, flow_run: Any, state: Any) -> None:  # noqa: ANN401  a hook of Prefect
    """Mark an optimization whose run failed, crashed or was cancelled before it could say so itself."""
    ledger = wiring.ledger(StackSettings())
    try:
        status = ledger.optimization(flow_run.parameters["request"]["id"])
        if status.state in (OptimizationState.QUEUED, OptimizationState.RUNNING):
            message = f"the flow run ended early ({state.name}): {state.message or 'no reason given'}"
            changes = {"state": OptimizationState.FAILED, "message": message, "updated_at": datetime.now(UTC)}
            ledger.save_optimization(status.model_copy(update=changes))
    finally:
        ledger.close()
