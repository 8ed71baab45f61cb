"""Usage in the ledger: what workers have counted since they were last read, by tenant, model and hour."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa

from registry.ledger.database import Database, insert_if_absent
from registry.ledger.tables import USAGE, USAGE_READINGS
from registry.records.tenant import Counters, ModelUsage, split_name

_FORGOTTEN_AFTER = timedelta(days=7)
"""A worker that has not been read for so long has ended: boots are never used again."""

_NOTED_EVERY = timedelta(days=1)
"""That a worker was read is noted so often where it has counted nothing more."""


class Usage:
    """The counters of all workers, added up."""

    def __init__(self, database: Database) -> None:
        """Use a ledger's database."""
        self._database = database

    def add_reading(self, boot: str, models: Mapping[str, Counters]) -> None:
        """Add what a worker has counted since its last reading to the hour that it is now.

        Reading and adding are one transaction, so a reader that dies in between, or a second one, counts nothing twice;
        nor does one that was overtaken: of two readings the higher counts.

        Args:
            boot: the worker process; a new one begins at zero.
            models: by qualified name, the counters since the process began.
        """
        counted = {name: counters.model_dump() for name, counters in models.items()}
        now = datetime.now(UTC)
        hour = now.replace(minute=0, second=0, microsecond=0)
        with self._database.write() as connection:
            before, read_at = _last_reading(connection, boot)
            highest = before | {name: _higher(before.get(name, {}), counters) for name, counters in counted.items()}
            if highest == before and now - read_at < _NOTED_EVERY:
                return
            for name, counters in sorted(highest.items()):  # in one order, so that no two readers wait for each other
                grown = {one: counters[one] - before.get(name, {}).get(one, 0) for one in Counters.model_fields}
                if any(grown.values()):
                    _add(connection, name, hour, grown)
            values = {"counted": highest, "at": now}
            connection.execute(sa.update(USAGE_READINGS).where(USAGE_READINGS.c.boot == boot).values(values))
            connection.execute(sa.delete(USAGE_READINGS).where(USAGE_READINGS.c.at < now - _FORGOTTEN_AFTER))

    def of(
        self, *, tenant: str | None, model: str | None = None, since: datetime, until: datetime
    ) -> tuple[ModelUsage, ...]:
        """Return the hours that begin in a span of time, oldest first.

        Args:
            tenant: whose; None: of all.
            model: a model's name as its tenant knows it; None: of all.
            since: the earliest hour.
            until: hours that begin here or later are left out.
        """
        query = sa.select(USAGE).where(USAGE.c.hour >= since, USAGE.c.hour < until)
        if tenant is not None:
            query = query.where(USAGE.c.tenant == tenant)
        if model is not None:
            query = query.where(USAGE.c.model == model)
        with self._database.read() as connection:
            rows = connection.execute(query.order_by(USAGE.c.hour, USAGE.c.tenant, USAGE.c.model)).all()
        return tuple(ModelUsage.model_validate(dict(row._mapping)) for row in rows)


def _last_reading(connection: sa.Connection, boot: str) -> tuple[dict[str, dict[str, int]], datetime]:
    """Return the highest that a worker told, and when, its row locked; a row is made for one that is new."""
    insert_if_absent(connection, USAGE_READINGS, {"boot": boot, "counted": {}, "at": datetime.now(UTC)})
    query = sa.select(USAGE_READINGS.c.counted, USAGE_READINGS.c.at).where(USAGE_READINGS.c.boot == boot)
    found = connection.execute(query.with_for_update()).one()
    return found.counted, found.at


def _higher(one: Mapping[str, int], other: Mapping[str, int]) -> dict[str, int]:
    """Counters of one process only grow, so the higher ones were read later."""
    return {name: max(one.get(name, 0), value) for name, value in other.items()}


def _add(connection: sa.Connection, name: str, hour: datetime, grown: Mapping[str, int]) -> None:
    tenant, model = split_name(name)
    place: dict[str, Any] = {"tenant": tenant, "model": model, "hour": hour}
    if insert_if_absent(connection, USAGE, {**place, **grown}):
        return
    same = sa.and_(*(USAGE.c[column] == value for column, value in place.items()))
    added = {one: USAGE.c[one] + value for one, value in grown.items()}
    connection.execute(sa.update(USAGE).where(same).values(added))
