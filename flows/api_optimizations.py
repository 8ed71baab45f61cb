"""Optimizations: start one, follow it, read its result and its report."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from fastapi import APIRouter, HTTPException
from fastapi.responses import FileResponse

from flows import api_pages, api_quotas
from flows.api_audit import add_evidence
from flows.api_auth import Caller, Who
from flows.api_bodies import OptimizationBody, OptimizationList, OptimizationView
from flows.api_once import OnceRoute
from flows.api_own import AskedModel, OwnModel, OwnOptimization, require_artifact
from flows.api_pages import DEFAULT_LIMIT, Cursor, Limit
from flows.api_platform import Platform, Stack
from flows.api_prefect import Unanswered
from flows.api_problems import file_of
from flows.progress import queued
from registry.errors import BurnishError, InputError, ModelNotFound, TransientError
from registry.records.optimization import OptimizationRequest
from registry.records.release import OptimizationState, OptimizationStatus

router = APIRouter(tags=["optimizations"], route_class=OnceRoute)

_JSON, _HTML, _SVG = (file_of(media_type) for media_type in ("application/json", "text/html", "image/svg+xml"))


@router.post("/models/{model}/optimizations", status_code=202)
def start(model: OwnModel, body: OptimizationBody, platform: Stack, who: Who) -> OptimizationStatus:
    """Start the flow that optimizes, gates, registers and releases an uploaded model."""
    request = OptimizationRequest(
        model=model,
        source=body.source,
        evaluation=body.evaluation,
        calibration=body.calibration,
        config=body.config,
        release=body.release,
    )
    _require_uploads(platform, who, request)
    add_evidence(optimization=request.id, source=body.source, evaluation=body.evaluation, calibration=body.calibration)
    status = queued(request)
    api_quotas.begin(platform, status)
    parameters = {"request": request.model_dump(mode="json")}
    try:
        run = platform.deployments.start("optimize", parameters, key=request.id)
    except BurnishError as error:
        state = _state_after(error)
        platform.ledger.save_optimization(status.model_copy(update={"state": state, "message": str(error)}))
        raise
    # Not saved: the flow may have written its own status by now, with this run's id.
    return status.model_copy(update={"flow_run": run.id})


@router.get("/optimizations")
def optimizations(
    platform: Stack, who: Who, model: AskedModel, limit: Limit = DEFAULT_LIMIT, cursor: Cursor = None
) -> OptimizationList:
    """List optimizations, newest first."""
    listed = ("optimizations", model)
    last = api_pages.after(cursor, (api_pages.moment, api_pages.word), *listed)
    found = platform.ledger.listings.optimizations(who.tenant, limit + 1, model=model, after=last)
    items, following = api_pages.page(found, limit, lambda status: (status.created_at.isoformat(), status.id), *listed)
    return OptimizationList(optimizations=items, next=following)


@router.get("/optimizations/{optimization_id}")
def optimization(status: OwnOptimization, platform: Stack) -> OptimizationView:
    """Say where an optimization stands, with its Prefect flow run."""
    try:
        run = platform.deployments.find(run_id=status.flow_run, key=status.id)
    except TransientError as error:
        return OptimizationView(status=status, prefect_unavailable=str(error))
    return OptimizationView(status=status, flow_run=run)


@router.post("/optimizations/{optimization_id}/cancel", status_code=202)
def cancel(status: OwnOptimization, platform: Stack) -> OptimizationView:
    """Stop an optimization; the best that its search has found until then is kept as an artifact."""
    wanted = {"state": OptimizationState.CANCELLING, "updated_at": datetime.now(UTC)}
    status = platform.ledger.save_optimization(status.model_copy(update=wanted))
    if status.state is not OptimizationState.CANCELLING:
        raise HTTPException(409, f"the optimization {status.id} has ended already, it is {status.state}")
    run = platform.deployments.find(run_id=status.flow_run, key=status.id)
    if run is None or platform.deployments.cancel(run) == "CANCELLED":
        ended = {"state": OptimizationState.CANCELLED, "message": "cancelled before it began"}
        status = platform.ledger.save_optimization(status.model_copy(update=ended))
    return OptimizationView(status=status, flow_run=run)


@router.get(
    "/optimizations/{optimization_id}/result", response_class=FileResponse, responses=file_of("application/json")
)
def result(status: OwnOptimization, platform: Stack) -> FileResponse:
    """Return ``result.json``: every candidate with its figures."""
    return FileResponse(_result_file(platform, status, "result.json"), media_type="application/json")


@router.get("/optimizations/{optimization_id}/report", response_class=FileResponse, responses=_HTML)
def report(status: OwnOptimization, platform: Stack) -> FileResponse:
    """Return the report page."""
    return FileResponse(_result_file(platform, status, "report.html"), media_type="text/html")


@router.get(
    "/optimizations/{optimization_id}/plots/{plot}", response_class=FileResponse, responses=file_of("image/svg+xml")
)
def plot(status: OwnOptimization, plot: Literal["latency", "front"], platform: Stack) -> FileResponse:
    """Return one of the report's plots as SVG."""
    return FileResponse(_result_file(platform, status, f"{plot}.svg"), media_type="image/svg+xml")


def _state_after(error: BurnishError) -> OptimizationState:
    """What becomes of an optimization that could not be started; a run that begins all the same goes no further."""
    if isinstance(error, Unanswered):
        return OptimizationState.CANCELLED
    return OptimizationState.INVALID if isinstance(error, InputError) else OptimizationState.FAILED


def _require_uploads(platform: Platform, who: Caller, request: OptimizationRequest) -> None:
    parts = {"source": request.source, "evaluation": request.evaluation, "calibration": request.calibration}
    for part, digest in parts.items():
        if digest is not None:
            require_artifact(platform, who, part, digest)


def _result_file(platform: Platform, status: OptimizationStatus, name: str) -> Path:
    if status.result is None:
        raise ModelNotFound(f"the optimization {status.id} has no result; its state is {status.state}")
    path = platform.artifacts.checkout(status.result) / name
    if not path.is_file():
        raise ModelNotFound(f"the optimization {status.id} has no {name}: nothing was measured")
    return path
