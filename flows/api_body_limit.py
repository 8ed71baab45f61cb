"""The bound on a request's body: JSON is read whole, so no more of it is taken than any operation needs."""

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from flows import api_problems

MAX_BODY_BYTES = 4 * 2**20

_STREAMED = ("/v1/artifacts/", "/v1/uploads/")
"""Uploads go to disk piece by piece and have a bound of their own."""


class BodyLimit:
    """Answers 413 to what is larger, before it is read where its length is told, and while it is read otherwise."""

    def __init__(self, app: ASGIApp) -> None:
        """Stand before an application."""
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http" or scope["path"].startswith(_STREAMED):
            await self._app(scope, receive, send)
            return
        declared = Headers(scope=scope).get("content-length", "")
        if declared.isascii() and declared.isdigit() and int(declared) > MAX_BODY_BYTES:
            detail = f"{scope['method']} {scope['path']}: {_too_large()}"
            await api_problems.problem(413, "request-entity-too-large", detail)(scope, receive, send)
            return
        taken = 0

        async def receive_counted() -> Message:
            nonlocal taken
            message = await receive()
            taken += len(message.get("body", b""))
            if taken > MAX_BODY_BYTES:
                raise HTTPException(413, _too_large())
            return message

        await self._app(scope, receive_counted, send)


def _too_large() -> str:
    return f"the body of this request may have at most {MAX_BODY_BYTES} bytes"
