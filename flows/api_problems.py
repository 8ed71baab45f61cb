"""Errors of the control API as JSON problems (RFC 9457): type, title, status, detail."""

import json
import logging
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

from flows.api_names import short_text
from flows.api_request_ids import HEADER, request_id
from registry.errors import BurnishError, InputError, ModelNotFound, StorageFull, TransientError, VersionConflict

MEDIA_TYPE = "application/problem+json"
RETRY_AFTER_S = 5

_MAX_NAMED = 20
_log = logging.getLogger(__name__)

_STATUSES: tuple[tuple[type[BurnishError], int, str], ...] = (
    (InputError, 422, "input-error"),
    (ModelNotFound, 404, "not-found"),
    (VersionConflict, 409, "version-conflict"),
    (StorageFull, 507, "insufficient-storage"),
    (TransientError, 503, "unavailable"),
    (BurnishError, 500, "registry-error"),
)


class Problem(BaseModel):
    """What went wrong, in the form of RFC 9457."""

    type: str = Field(description="`urn:burnish:` and the kind of error, for programs.")
    title: str = Field(description="The kind of error, for people.")
    status: int = Field(description="The HTTP status.")
    detail: str = Field(description="What is wrong with this request, where, and what to do.")


def _described(what: str) -> dict[str, Any]:
    return {"description": what, "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}}


RESPONSES: dict[int | str, dict[str, Any]] = {
    "4XX": _described("The request must change."),
    "503": _described("A part of the stack does not answer now.")
    | {"headers": {"Retry-After": {"description": "Seconds.", "schema": {"type": "integer"}}}},
    "5XX": _described("The control API failed; its log has the answer's `x-request-id`."),
}
"""What every operation may answer besides its own answer, as OpenAPI describes it."""


def file_of(media_type: str) -> dict[int | str, dict[str, Any]]:
    """Return how OpenAPI describes an answer that is a file."""
    schema = {} if media_type == "application/json" else {"type": "string"}
    return {200: {"description": "The file.", "content": {media_type: {"schema": schema}}}}


class ProblemResponse(JSONResponse):
    """A problem as an answer; what UTF-8 has not, such as half a surrogate pair of the request, is escaped."""

    media_type = MEDIA_TYPE

    def render(self, content: Any) -> bytes:  # noqa: ANN401  starlette's signature
        """Return the body."""
        return json.dumps(content).encode("ascii")


def problem(status: int, kind: str, detail: str, headers: dict[str, str] | None = None) -> ProblemResponse:
    """Make the one form in which every error leaves the API."""
    said = Problem(type=f"urn:burnish:{kind}", title=kind.replace("-", " "), status=status, detail=detail)
    return ProblemResponse(said.model_dump(), status_code=status, headers=headers)


def install(app: FastAPI) -> None:
    """Make an application answer every error as a problem."""
    app.add_exception_handler(BurnishError, _burnish_error)
    app.add_exception_handler(RequestValidationError, _validation_error)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(Exception, _unexpected)


def _burnish_error(request: Request, error: Exception) -> ProblemResponse:
    status, kind = next((status, kind) for base, status, kind in _STATUSES if isinstance(error, base))
    headers = {"Retry-After": str(RETRY_AFTER_S)} if isinstance(error, TransientError) else None
    return problem(status, kind, _as_called(request, str(error)), headers)


def _validation_error(_: Request, error: Exception) -> ProblemResponse:
    if not isinstance(error, RequestValidationError):
        raise TypeError(f"not a validation error: {error!r}")
    found = error.errors()
    parts = [f"{'.'.join(str(place) for place in one['loc'])}: {one['msg']}" for one in found[:_MAX_NAMED]]
    if len(found) > _MAX_NAMED:
        parts.append(f"and {len(found) - _MAX_NAMED} more")
    return problem(422, "input-error", "; ".join(parts))


def _http_error(request: Request, error: Exception) -> ProblemResponse:
    if not isinstance(error, HTTPException):
        raise TypeError(f"not an HTTP error: {error!r}")
    phrase = HTTPStatus(error.status_code).phrase
    detail = f"{request.method} {request.url.path}: {_as_called(request, error.detail)}"
    headers = dict(error.headers) if error.headers else None
    return problem(error.status_code, phrase.lower().replace(" ", "-"), detail, headers)


def _as_called(request: Request, text: str) -> str:
    """Return a message that calls the models of this request as the caller does."""
    return short_text(text, getattr(request.state, "own_names", ()))


def _unexpected(request: Request, error: Exception) -> ProblemResponse:
    """What nobody foresaw: the log has it under the request's id, the caller gets the id only."""
    identifier = request_id(request.scope)
    _log.error("request %s, %s %s, failed", identifier, request.method, request.url.path, exc_info=error)
    detail = f"the control API failed on this request; its log says why, under the request id {identifier}"
    return problem(500, "internal-error", detail, {HEADER: identifier})
