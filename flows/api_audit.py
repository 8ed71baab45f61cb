"""The audit of the control API: a call that is no read has its entry, whatever came of it, before its answer leaves."""

import re
from contextvars import ContextVar
from typing import Annotated

from fastapi import APIRouter, HTTPException, Query
from pydantic import JsonValue
from starlette.concurrency import run_in_threadpool
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from flows import api_problems
from flows.api_auth import READS, Caller, Operator, Who, needs, source_of
from flows.api_platform import Stack
from registry.errors import BurnishError
from registry.ledger.ledger import Ledger
from registry.records import tenant
from registry.records.audit import AuditDraft, AuditEntry, AuditHead, AuditVerdict
from registry.records.base import Record

router = APIRouter(prefix="/audit", tags=["audit"])

_MAX_TARGET = 500
_SECRET = re.compile(r"(bn_[0-9a-f]{12}_)[A-Za-z0-9_-]+")
_CHECKPOINT = re.compile(r"(\d{1,18}):([0-9a-f]{64})")
_evidence: ContextVar[dict[str, JsonValue] | None] = ContextVar("evidence", default=None)


class AuditPage(Record):
    """Entries, newest first."""

    entries: tuple[AuditEntry, ...]
    next: int | None
    """Give it as ``before`` for the page after this one; None: there is none."""


class AuditTrail:
    """Appends an entry for each call that is no read; a call that cannot be audited is answered 503."""

    def __init__(self, app: ASGIApp, *, ledger: Ledger) -> None:
        """Stand before an application."""
        self._app = app
        self._ledger = ledger

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http" or scope["method"] in READS:
            await self._app(scope, receive, send)
            return
        evidence: dict[str, JsonValue] = {}
        _evidence.set(evidence)
        answered = replaced = False

        async def audit_and_send(message: Message) -> None:
            nonlocal answered, replaced
            if message["type"] == "http.response.start":
                answered = True
                try:
                    await self._append(scope, message["status"], evidence)
                except BurnishError as error:
                    replaced = True
                    detail = f"the answer is {message['status']}, but it is not in the audit: {error}"
                    await api_problems.problem(503, "unavailable", detail)(scope, receive, send)
            if not replaced:
                await send(message)

        try:
            await self._app(scope, receive, audit_and_send)
        finally:
            if not answered:  # the caller has gone, or the handler failed: what was done is told all the same
                await self._append(scope, 500, evidence)

    async def _append(self, scope: Scope, status: int, evidence: dict[str, JsonValue]) -> None:
        state = scope.get("state", {})
        caller = state.get("caller")
        endpoint = scope.get("endpoint")
        if "request_id" in state:
            evidence = evidence | {"request_id": state["request_id"]}
        draft = AuditDraft(
            tenant=caller.tenant if isinstance(caller, Caller) else None,
            actor=caller.actor if isinstance(caller, Caller) else "unknown",
            source=source_of(scope),
            action=getattr(endpoint, "__name__", "none"),
            target=_target(scope),
            outcome="done" if status < 400 else str(status),
            evidence=evidence,
        )
        await run_in_threadpool(self._ledger.audit.append, draft)


def _target(scope: Scope) -> str:
    called = f"{scope['method']} {scope['path']}"[:_MAX_TARGET]
    return _SECRET.sub(r"\1...", called).replace("\0", "%00")  # databases keep no NUL


def add_evidence(**found: JsonValue) -> None:
    """Add to what the audit's entry of the running call tells; of a call that is not audited, nothing is kept."""
    evidence = _evidence.get()
    if evidence is not None:
        evidence.update(found)


@router.get("", dependencies=[needs(tenant.Scope.ADMIN)])
def audit(
    platform: Stack,
    who: Who,
    before: Annotated[int | None, Query(ge=1, le=2**62, description="Only entries with a smaller number.")] = None,
    limit: Annotated[int, Query(ge=1, le=500, description="How many at most.")] = 100,
) -> AuditPage:
    """List the tenant's entries, newest first; the operator's list is that of all tenants unless one is named."""
    everybody = who.operator and who.tenant == tenant.DEFAULT_TENANT
    found = platform.ledger.audit.entries(tenant=None if everybody else who.tenant, before=before, limit=limit + 1)
    more = len(found) > limit
    return AuditPage(entries=found[:limit], next=found[limit - 1].sequence if more else None)


@router.get("/verify")
def verify(
    platform: Stack,
    who: Operator,
    checkpoint: Annotated[
        str | None, Query(max_length=100, description="A head that was written down: N:HASH.")
    ] = None,
) -> AuditVerdict:
    """Walk the whole chain, and name the first entry that does not hold."""
    return platform.ledger.audit.verify(None if checkpoint is None else read_checkpoint(checkpoint))


def read_checkpoint(text: str) -> AuditHead:
    """Read a head as ``burnish audit verify`` prints it.

    Raises:
        HTTPException: 422, it is none.
    """
    found = _CHECKPOINT.fullmatch(text)
    if found is None:
        raise HTTPException(422, "checkpoint: give a head as `burnish audit verify` prints it, N:HASH")
    return AuditHead(sequence=int(found[1]), hash=found[2])
