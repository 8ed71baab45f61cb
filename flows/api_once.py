"""Idempotency keys: a POST that is sent again under its ``Idempotency-Key`` is answered again, and done once.

Only answers that say "done" (2xx) are kept: an error had no effect, so that the same request may be tried again. The
text of a new API key (an answer that says `no-store`) is never kept.
"""

import logging
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from hashlib import sha256
from typing import Annotated, Any

from fastapi import Depends, Header, Request, Response
from starlette.concurrency import run_in_threadpool

from flows import api_problems
from flows.api_auth import Who
from flows.api_names import ShortNamesRoute
from flows.api_platform import Platform, Stack
from registry.digest import json_digest
from registry.errors import TransientError
from registry.ledger.kept_answers import KeptAnswer, Refusal

REPLAYED = "idempotent-replayed"

_KEPT_HEADERS = ("content-type", "etag", "location")
_ASKING_HEADERS = ("if-match", "upload-length", "upload-metadata")
"""Headers that say what is asked, as a body does."""

_log = logging.getLogger(__name__)

Key = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        pattern=r"^[\x21-\x7e]{1,255}$",
        description="Chosen by the client, such as a UUID; the same key again, within a day, does nothing twice.",
    ),
]


class _AnsweredBefore(Exception):
    """The answer is known without the handler."""

    def __init__(self, response: Response) -> None:
        super().__init__()
        self.response = response


@dataclass(frozen=True)
class _Claim:
    """A key that is this request's own until its answer is kept."""

    platform: Platform
    tenant: str
    key: str

    async def keep(self, response: Response) -> None:
        headers = {name: response.headers[name] for name in _KEPT_HEADERS if name in response.headers}
        answer = KeptAnswer(response.status_code, headers, bytes(response.body).decode())
        try:
            await run_in_threadpool(self.platform.ledger.answers.keep, self.tenant, self.key, answer)
        except TransientError as error:
            _log.warning("what was done under the idempotency key %s cannot be kept: %s", self.key, error)

    async def release(self) -> None:
        try:
            await run_in_threadpool(self.platform.ledger.answers.release, self.tenant, self.key)
        except TransientError as error:
            _log.warning("the idempotency key %s is let go of later: %s", self.key, error)


async def _claim(request: Request, platform: Stack, who: Who, key: Key = None) -> None:
    if key is None:
        return
    claim = _Claim(platform, who.tenant, key)
    asked = json_digest([request.method, str(request.url.path), request.url.query, *await _contents(request)])
    found = await run_in_threadpool(platform.ledger.answers.claim, claim.tenant, key, asked)
    if isinstance(found, KeptAnswer):
        headers = found.headers | {REPLAYED: "true"}
        raise _AnsweredBefore(Response(found.body, found.status, headers))
    if found is Refusal.IN_PROGRESS:
        detail = f"the request with the Idempotency-Key {key} is not answered yet; send it again in a moment"
        raise _AnsweredBefore(api_problems.problem(409, "request-in-progress", detail, {"Retry-After": "1"}))
    if found is Refusal.OTHER_REQUEST:
        detail = f"the Idempotency-Key {key} belongs to another request; choose a new one for this request"
        raise _AnsweredBefore(api_problems.problem(422, "idempotency-key-reused", detail))
    request.state.claim = claim


async def _contents(request: Request) -> tuple[str, ...]:
    body = sha256(await request.body()).hexdigest()
    return body, *(request.headers.get(name, "") for name in _ASKING_HEADERS)


def _may_be_kept(response: Response) -> bool:
    return response.status_code < 300 and response.headers.get("cache-control") != "no-store"


class OnceRoute(ShortNamesRoute):
    """A route whose POST may carry an idempotency key."""

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:  # noqa: ANN401
        """Let a POST claim its key before its handler runs."""
        if "POST" in (options.get("methods") or ()):
            others = [one for one in options.get("dependencies") or () if one.dependency is not _claim]
            options["dependencies"] = [*others, Depends(_claim)]
        super().__init__(path, endpoint, **options)

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return the handler of a request, which keeps its answer under the key."""
        handle = super().get_route_handler()

        async def handle_once(request: Request) -> Response:
            try:
                response = await handle(request)
            except _AnsweredBefore as answered:
                return answered.response
            except BaseException:
                if claim := getattr(request.state, "claim", None):
                    await claim.release()
                raise
            if claim := getattr(request.state, "claim", None):
                await (claim.keep(response) if _may_be_kept(response) else claim.release())
            return response

        return handle_once
