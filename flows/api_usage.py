"""Usage: what each model did for its tenant by the hour, and how it is gathered from the engine's workers."""

from datetime import UTC, datetime, timedelta
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import AwareDatetime

from flows.api_auth import Who, needs
from flows.api_platform import Stack
from flows.workers import Workers
from registry.errors import InputError
from registry.ledger.ledger import Ledger
from registry.records.base import ModelName, Record
from registry.records.tenant import DEFAULT_TENANT, ModelUsage, Scope

router = APIRouter(tags=["usage"])

_DEFAULT_SPAN = timedelta(days=30)
_MAX_SPAN = timedelta(days=400)


class UsageReport(Record):
    """The hours in which anything was used, oldest first."""

    since: datetime
    until: datetime
    usage: tuple[ModelUsage, ...]


@router.get("/usage", dependencies=[needs(Scope.ADMIN)])
def usage(
    platform: Stack,
    who: Who,
    model: ModelName | None = None,
    since: Annotated[AwareDatetime | None, Query(description="The earliest hour; 30 days ago.")] = None,
    until: Annotated[AwareDatetime | None, Query(description="Hours before this moment; now.")] = None,
) -> UsageReport:
    """Return the tenant's usage; the operator's report is of all tenants unless one is named."""
    begin, end = _span(since, until)
    everybody = who.operator and who.tenant == DEFAULT_TENANT
    found = platform.ledger.usage.of(tenant=None if everybody else who.tenant, model=model, since=begin, until=end)
    return UsageReport(since=begin, until=end, usage=found)


def _span(since: datetime | None, until: datetime | None) -> tuple[datetime, datetime]:
    try:
        end = (until or datetime.now(UTC)).astimezone(UTC)
        begin = (since or end - _DEFAULT_SPAN).astimezone(UTC)
    except OverflowError as error:
        raise InputError("since and until: no calendar has these moments") from error
    if not timedelta(0) <= end - begin <= _MAX_SPAN:
        raise InputError(f"since and until: the span must be between 0 and {_MAX_SPAN.days} days")
    return begin, end


def gather(ledger: Ledger, workers: Workers) -> None:
    """Read what every worker has counted, and add what is new.

    Raises:
        TransientError: the ledger cannot be reached.
    """
    for reading in workers.usage():
        if reading is not None:
            ledger.usage.add_reading(reading.boot, reading.models)
