"""Errors of the control API as JSON problems (RFC 9457): type, title, status, detail."""

from http import HTTPStatus

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from registry.errors import BurnishError, InputError, ModelNotFound, TransientError, VersionConflict

MEDIA_TYPE = "application/problem+json"
RETRY_AFTER_S = 5

_STATUSES: tuple[tuple[type[BurnishError], int, str], ...] = (
    (InputError, 422, "input-error"),
    (ModelNotFound, 404, "not-found"),
    (VersionConflict, 409, "version-conflict"),
    (TransientError, 503, "unavailable"),
    (BurnishError, 500, "registry-error"),
)


def problem(status: int, kind: str, detail: str, headers: dict[str, str] | None = None) -> JSONResponse:
    """Make the one form in which every error leaves the API."""
    body = {
        "type": f"urn:burnish:{kind}",
        "title": kind.replace("-", " "),
        "status": status,
        "detail": detail,
    }
    return JSONResponse(body, status_code=status, headers=headers, media_type=MEDIA_TYPE)


def install(app: FastAPI) -> None:
    """Make an application answer every error as a problem."""
    app.add_exception_handler(BurnishError, _burnish_error)
    app.add_exception_handler(RequestValidationError, _validation_error)
    app.add_exception_handler(HTTPException, _http_error)


def _burnish_error(_: Request, error: Exception) -> JSONResponse:
    status, kind = next((status, kind) for base, status, kind in _STATUSES if isinstance(error, base))
    headers = {"Retry-After": str(RETRY_AFTER_S)} if isinstance(error, TransientError) else None
    return problem(status, kind, str(error), headers)


def _validation_error(_: Request, error: Exception) -> JSONResponse:
    if not isinstance(error, RequestValidationError):
        raise TypeError(f"not a validation error: {error!r}")
    parts = [f"{'.'.join(str(place) for place in found['loc'])}: {found['msg']}" for found in error.errors()]
    return problem(422, "input-error", "; ".join(parts))


def _http_error(request: Request, error: Exception) -> JSONResponse:
    if not isinstance(error, HTTPException):
        raise TypeError(f"not an HTTP error: {error!r}")
    phrase = HTTPStatus(error.status_code).phrase
    detail = f"{request.method} {request.url.path}: {error.detail}"
    headers = dict(error.headers) if error.headers else None
    return problem(error.status_code, phrase.lower().replace(" ", "-"), detail, headers)
