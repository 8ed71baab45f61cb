"""Optimizations: start one, follow it, read its result and its report."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from fastapi import APIRouter
from fastapi.responses import FileResponse

from flows.api_bodies import OptimizationBody, OptimizationList, OptimizationView
from flows.api_platform import Platform, Stack
from registry.errors import BurnishError, InputError, ModelNotFound, TransientError
from registry.records.base import ModelName
from registry.records.optimization import OptimizationRequest
from registry.records.release import OptimizationState, OptimizationStatus

router = APIRouter(tags=["optimizations"])


@router.post("/models/{model}/optimizations", status_code=202)
def start(model: ModelName, body: OptimizationBody, platform: Stack) -> OptimizationStatus:
    """Start the flow that optimizes, gates, registers and releases an uploaded model."""
    request = OptimizationRequest(
        model=model,
        source=body.source,
        evaluation=body.evaluation,
        calibration=body.calibration,
        config=body.config,
        release=body.release,
    )
    _require_uploads(platform, request)
    now = datetime.now(UTC)
    status = OptimizationStatus(
        id=request.id,
        model=model,
        state=OptimizationState.QUEUED,
        source=request.source,
        evaluation_set=request.evaluation,
        created_at=now,
        updated_at=now,
    )
    platform.ledger.save_optimization(status)
    parameters = {"request": request.model_dump(mode="json")}
    try:
        run = platform.deployments.start("optimize", parameters, key=request.id)
    except BurnishError as error:
        state = OptimizationState.INVALID if isinstance(error, InputError) else OptimizationState.FAILED
        platform.ledger.save_optimization(status.model_copy(update={"state": state, "message": str(error)}))
        raise
    # Not saved: the flow may have written its own status by now, with this run's id.
    return status.model_copy(update={"flow_run": run.id})


@router.get("/optimizations")
def optimizations(platform: Stack, model: ModelName | None = None) -> OptimizationList:
    """List optimizations, newest first."""
    found = platform.ledger.optimizations(model)
    newest_first = sorted(found, key=lambda status: status.created_at, reverse=True)
    return OptimizationList(optimizations=tuple(newest_first))


@router.get("/optimizations/{optimization_id}")
def optimization(optimization_id: str, platform: Stack) -> OptimizationView:
    """Say where an optimization stands, with its Prefect flow run."""
    status = platform.ledger.optimization(optimization_id)
    try:
        run = platform.deployments.find(run_id=status.flow_run, key=status.id)
    except TransientError as error:
        return OptimizationView(status=status, prefect_unavailable=str(error))
    return OptimizationView(status=status, flow_run=run)


@router.get("/optimizations/{optimization_id}/result", response_class=FileResponse)
def result(optimization_id: str, platform: Stack) -> FileResponse:
    """Return ``result.json``: every candidate with its figures."""
    return FileResponse(_result_file(platform, optimization_id, "result.json"), media_type="application/json")


@router.get("/optimizations/{optimization_id}/report", response_class=FileResponse)
def report(optimization_id: str, platform: Stack) -> FileResponse:
    """Return the report page."""
    return FileResponse(_result_file(platform, optimization_id, "report.html"), media_type="text/html")


@router.get("/optimizations/{optimization_id}/plots/{plot}", response_class=FileResponse)
def plot(optimization_id: str, plot: Literal["latency", "front"], platform: Stack) -> FileResponse:
    """Return one of the report's plots as SVG."""
    return FileResponse(_result_file(platform, optimization_id, f"{plot}.svg"), media_type="image/svg+xml")


def _require_uploads(platform: Platform, request: OptimizationRequest) -> None:
    parts = {"source": request.source, "evaluation": request.evaluation, "calibration": request.calibration}
    for part, digest in parts.items():
        if digest is not None and not platform.artifacts.exists(digest):
            raise InputError(f"{part}: nothing is stored under {digest}; upload it first")


def _result_file(platform: Platform, optimization_id: str, name: str) -> Path:
    status = platform.ledger.optimization(optimization_id)
    if status.result is None:
        raise ModelNotFound(f"the optimization {optimization_id} has no result; its state is {status.state}")
    path = platform.artifacts.checkout(status.result) / name
    if not path.is_file():
        raise ModelNotFound(f"the optimization {optimization_id} has no {name}: nothing was measured")
    return path
