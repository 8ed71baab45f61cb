"""Watching: drift reports, retraining, feedback."""

from fastapi import APIRouter, Request
from fastapi.responses import FileResponse

from flows import api_pages, api_quotas
from flows.api_audit import add_evidence
from flows.api_auth import Who, needs
from flows.api_bodies import DriftReportList, FeedbackBody, FlowRun, RetrainBody
from flows.api_once import OnceRoute
from flows.api_own import OwnModel, own_name
from flows.api_pages import DEFAULT_LIMIT, Cursor, Limit
from flows.api_platform import Stack
from flows.api_problems import file_of
from registry.errors import InputError, ModelNotFound
from registry.records.release import Feedback
from registry.records.tenant import Scope

router = APIRouter(tags=["watching"], route_class=OnceRoute)
feedback_router = APIRouter(tags=["watching"], route_class=OnceRoute, dependencies=[needs(Scope.PREDICT, Scope.DEPLOY)])


@router.post("/models/{model}/monitor", status_code=202)
def monitor(model: OwnModel, platform: Stack) -> FlowRun:
    """Start the flow that makes a drift report of the captured requests."""
    platform.require_model(model)
    return platform.deployments.start("monitor", {"model": model})


@router.get("/models/{model}/drift")
def drift_reports(
    model: OwnModel, platform: Stack, limit: Limit = DEFAULT_LIMIT, cursor: Cursor = None
) -> DriftReportList:
    """List the drift reports of a model, newest first."""
    platform.require_model(model)
    listed = ("drift", model)
    (last,) = api_pages.after(cursor, (api_pages.moment,), *listed) or (None,)
    found = platform.ledger.listings.drift_reports(model, limit + 1, after=last)
    items, following = api_pages.page(found, limit, lambda report: (report.created_at.isoformat(),), *listed)
    return DriftReportList(reports=items, next=following)


@router.get("/models/{model}/drift/report", response_class=FileResponse, responses=file_of("text/html"))
def drift_page(model: OwnModel, platform: Stack) -> FileResponse:
    """Return the page of the newest drift report."""
    digest = next((report.report for report in platform.ledger.drift_reports(model)[::-1] if report.report), None)
    if digest is None:
        raise ModelNotFound(f"there is no drift report of {model!r}; `burnish monitor {model}` makes one")
    return FileResponse(platform.artifacts.checkout(digest) / "drift.html", media_type="text/html")


@router.post("/models/{model}/retrain", status_code=202)
def retrain(model: OwnModel, body: RetrainBody, platform: Stack) -> FlowRun:
    """Start the flow that trains on the captured window and hands the new model to `optimize`."""
    platform.require_model(model)
    trainers = platform.settings.trainers
    if body.trainer is not None and body.trainer not in trainers:
        raise InputError(f"{body.trainer!r} is not one of this stack's trainers: {', '.join(trainers)}")
    api_quotas.require_version(platform, model)
    parameters = {"model": model} if body.trainer is None else {"model": model, "trainer": body.trainer}
    return platform.deployments.start("retrain", parameters)


@feedback_router.post("/feedback", status_code=202)
def feedback(body: FeedbackBody, platform: Stack, who: Who, request: Request) -> Feedback:
    """Keep what became known of one request: the true answers, or a score."""
    told = Feedback(**{**body.model_dump(), "model": own_name(request, who, body.model)})
    platform.require_model(told.model)
    platform.ledger.add_feedback(told)
    add_evidence(request_id_of_answer=told.request_id)
    return told
