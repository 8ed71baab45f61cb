"""The control API's application over a platform: routes, errors, docs page, lifespan."""

import importlib.util
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import anyio
from fastapi import APIRouter, FastAPI
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import HTMLResponse, JSONResponse
from fastapi.staticfiles import StaticFiles

from flows import (
    api_audit,
    api_events,
    api_experiments,
    api_explain,
    api_logs,
    api_metrics,
    api_models,
    api_optimizations,
    api_problems,
    api_releases,
    api_tenants,
    api_upload_sessions,
    api_uploads,
    api_usage,
    api_watching,
)
from flows.api_audit import AuditTrail
from flows.api_auth import Authentication, Operator, needs
from flows.api_bodies import Health, PlatformStatus
from flows.api_body_limit import BodyLimit
from flows.api_platform import Platform, Stack
from flows.api_request_ids import RequestIds
from registry.records.tenant import Scope

router = APIRouter(tags=["platform"])


@router.get("/health", response_model=Health)
def health(platform: Stack) -> Health | JSONResponse:
    """Say that the API answers; 503 if its reconciler died, so that the supervisor sees it."""
    if not platform.reconciler.running:
        return api_problems.problem(503, "unavailable", "the reconciler has stopped; restart the control API")
    return Health()


@router.get("/status")
def status(platform: Stack, who: Operator) -> PlatformStatus:
    """Say what the reconciler found last, to the operator."""
    found = platform.reconciler.findings
    return PlatformStatus(models=platform.ledger.listings.count(), mirrors=found.mirrors, notes=found.notes)


class _ControlApi(FastAPI):
    """The application, whose OpenAPI knows the form of problems."""

    def openapi(self) -> dict[str, Any]:
        """Return the description of every operation."""
        described = super().openapi()
        described["components"]["schemas"]["Problem"] = api_problems.Problem.model_json_schema()
        return described


def build_app(platform: Platform) -> FastAPI:
    """Build the application over a platform; its lifespan runs the reconciler and closes the ledger."""
    sessions = api_upload_sessions.upload_sessions(platform.settings)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        sessions.sweep(at_start=True)
        platform.reconciler.start()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(sessions.keep_swept, api_upload_sessions.SWEEP_S)
            yield
            tasks.cancel_scope.cancel()
        platform.reconciler.stop()
        platform.ledger.close()

    assets = _swagger_assets()
    app = _ControlApi(
        title="Burnish control API",
        version=version("burnish"),
        lifespan=lifespan,
        docs_url="/docs" if assets is None else None,
        redoc_url=None,
        responses=api_problems.RESPONSES,
    )
    app.state.platform = platform
    app.state.upload_sessions = sessions
    api_problems.install(app)
    app.add_middleware(BodyLimit)
    app.add_middleware(Authentication, ledger=platform.ledger, require_keys=platform.settings.require_keys)
    app.add_middleware(AuditTrail, ledger=platform.ledger)
    app.add_middleware(RequestIds)
    uploads = (api_uploads, api_upload_sessions)
    routes = (api_models, api_releases, api_experiments)
    for part in (*uploads, api_optimizations, api_events, *routes, api_watching, api_explain):
        app.include_router(part.router, prefix="/v1", dependencies=[needs(Scope.DEPLOY)])
    for further in (
        api_watching.feedback_router,
        api_tenants.tenants_router,
        api_tenants.keys_router,
        api_audit.router,
        api_usage.router,
        api_metrics.tenant_router,
        api_logs.router,
        router,
    ):
        app.include_router(further, prefix="/v1")
    app.include_router(api_metrics.router)
    if assets is not None:
        _serve_docs(app, assets)
    return app


def _swagger_assets() -> Path | None:
    """The Swagger UI files that the BentoML wheel carries; without them the page loads them from FastAPI's CDN."""
    spec = importlib.util.find_spec("bentoml")
    if spec is None or spec.origin is None:
        return None
    folder = Path(spec.origin).parent / "_internal" / "server" / "static_content"
    return folder if (folder / "swagger-ui-bundle.js").is_file() else None


def _serve_docs(app: FastAPI, assets: Path) -> None:
    app.mount("/docs/assets", StaticFiles(directory=assets))

    @app.get("/docs", include_in_schema=False)
    def docs() -> HTMLResponse:
        return get_swagger_ui_html(
            openapi_url="/openapi.json",
            title=app.title,
            swagger_js_url="/docs/assets/swagger-ui-bundle.js",
            swagger_css_url="/docs/assets/swagger-ui.css",
            swagger_favicon_url="data:,",
        )
