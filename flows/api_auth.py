"""Who calls: from an API key to a tenant and what it may do; without one that holds nothing behind is reached."""

import hmac
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from hashlib import sha256
from typing import Annotated, Any

from fastapi import Depends, HTTPException, Query, Request
from fastapi.security import APIKeyHeader, HTTPBearer
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Send
from starlette.types import Scope as AsgiScope

from flows import api_problems
from flows.api_platform import Stack
from flows.tenants import key_id
from registry.errors import TransientError
from registry.ledger.ledger import Ledger
from registry.records.tenant import DEFAULT_TENANT, ApiKey, Scope, TenantName

API_KEY_HEADER = "x-api-key"
READS = ("GET", "HEAD", "OPTIONS")
"""Methods that change nothing."""

OPERATOR = "operator"
"""The actor where no key is needed and none was brought."""

# Dependencies that wait for nothing are coroutines: any other FastAPI takes to a thread and back, which costs more.

# For the description of the API only: the middleware has looked at the key before.
_BEARER = HTTPBearer(auto_error=False, description="An API key.")
_HEADER = APIKeyHeader(name=API_KEY_HEADER, auto_error=False, description="An API key.")
_OPEN = ("/v1/health", "/openapi.json", "/docs")
_NO_KEY_HASH = "0" * 64
_NEEDED = "an API key is needed that holds: give it as `Authorization: Bearer KEY` or `x-api-key: KEY`"


@dataclass(frozen=True)
class Caller:
    """Who calls, for which tenant, and what they may do."""

    tenant: str
    scopes: frozenset[Scope]
    actor: str
    source: str
    operator: bool
    """An administrator of the tenant ``default``, who sees all tenants and may act for each."""


class Authentication:
    """Answers 401 to who has no valid key, before anything of the request's body is read."""

    def __init__(self, app: ASGIApp, *, ledger: Ledger, require_keys: bool) -> None:
        """Stand before an application."""
        self._app = app
        self._ledger = ledger
        self._require_keys = require_keys

    async def __call__(self, scope: AsgiScope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http" or scope["path"] in _OPEN or scope["path"].startswith("/docs/assets/"):
            await self._app(scope, receive, send)
            return
        try:
            caller = await self._caller(scope)
        except TransientError as error:
            await api_problems.problem(503, "unavailable", str(error), {"Retry-After": "5"})(scope, receive, send)
            return
        if caller is None:
            refusal = api_problems.problem(401, "unauthorized", _NEEDED, {"WWW-Authenticate": "Bearer"})
            await refusal(scope, receive, send)
            return
        scope.setdefault("state", {})["caller"] = caller
        await self._app(scope, receive, send)

    async def _caller(self, scope: AsgiScope) -> Caller | None:
        source = source_of(scope)
        presented = _presented(Headers(scope=scope))
        if not presented:
            return None if self._require_keys else Caller(DEFAULT_TENANT, frozenset(Scope), OPERATOR, source, True)
        if len(presented) > 1:  # which of them counts would depend on who reads them
            return None
        key = await run_in_threadpool(find_key, self._ledger, presented.pop())
        if key is None:
            return None
        operator = key.tenant == DEFAULT_TENANT and Scope.ADMIN in key.scopes
        return Caller(key.tenant, frozenset(key.scopes), key.id, source, operator)


def find_key(ledger: Ledger, text: str) -> ApiKey | None:
    """Return the key of a text if it holds now; how long this takes does not tell how much of a guess was right."""
    known = ledger.keys.find(key_id(text))
    same = hmac.compare_digest(sha256(text.encode()).hexdigest(), known.sha256 if known else _NO_KEY_HASH)
    return known if known and same and known.holds_at(datetime.now(UTC)) else None


def source_of(scope: AsgiScope) -> str:
    """Return the address that a request came from."""
    client = scope.get("client")
    return str(client[0]) if client else "unknown"


def _presented(headers: Headers) -> set[str]:
    keys = set(headers.getlist(API_KEY_HEADER))
    for value in headers.getlist("authorization"):
        scheme, _, credentials = value.partition(" ")
        keys.add(credentials.strip() if scheme.lower() == "bearer" else "")  # another scheme is a wrong key
    return keys


async def _who(
    request: Request,
    platform: Stack,
    _bearer: Annotated[object, Depends(_BEARER)],
    _header: Annotated[object, Depends(_HEADER)],
    tenant: Annotated[
        TenantName | None, Query(description="For whom the operator acts; others act for their own tenant.")
    ] = None,
) -> Caller:
    caller = request.state.caller
    if not isinstance(caller, Caller):
        raise TypeError("the application was built without its authentication")
    if tenant is None or tenant == caller.tenant:
        return caller
    if not caller.operator:
        raise HTTPException(403, "only the operator acts for another tenant")
    if request.method not in READS:  # what a removed tenant left can be read; nothing more is told of it, or of none
        await run_in_threadpool(platform.ledger.tenants.get, tenant)
    acting = replace(caller, tenant=tenant)
    request.state.caller = acting
    return acting


Who = Annotated[Caller, Depends(_who)]
"""Who calls, as a handler's parameter."""


def needs(*scopes: Scope) -> Any:  # noqa: ANN401  what FastAPI declares for Depends
    """Return the dependency of routes that need one of some scopes."""

    async def check(who: Who) -> None:
        if who.scopes.isdisjoint(scopes):
            raise HTTPException(403, f"the key lacks the scope {' or '.join(f'`{scope}`' for scope in scopes)}")

    return Depends(check)


async def _operator(who: Who) -> Caller:
    if not who.operator:
        raise HTTPException(403, "this is for the operator: a key of the tenant `default` with the scope `admin`")
    return who


Operator = Annotated[Caller, Depends(_operator)]
"""Who calls, where only the operator may."""
