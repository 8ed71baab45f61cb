"""Kept answers: what a request with an idempotency key was answered, so that sending it again does nothing twice."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum

import sqlalchemy as sa

from registry.ledger.database import Database, insert_if_absent
from registry.ledger.tables import KEPT_ANSWERS

KEPT = timedelta(hours=24)
"""How long an answer is given again; after that, its key is as good as new."""

ABANDONED = timedelta(minutes=3)
"""After this a request that was never answered counts as lost with the process that had it; its key may be taken."""


@dataclass(frozen=True)
class KeptAnswer:
    """An answer as it was sent."""

    status: int
    headers: dict[str, str]
    body: str


class Refusal(StrEnum):
    """Why a request with a key is neither done nor answered again."""

    OTHER_REQUEST = "other request"
    IN_PROGRESS = "in progress"


class KeptAnswers:
    """The answers by tenant and key, for a bounded time."""

    def __init__(self, database: Database) -> None:
        """Keep them in the ledger's database."""
        self._database = database

    def claim(self, tenant: str, key: str, request: str) -> KeptAnswer | Refusal | None:
        """Take a key for a request; None: it is the caller's, who answers with ``keep`` or lets go with ``release``.

        Args:
            tenant: whose key it is.
            key: what the client chose.
            request: digest of all that the request asks for.

        Raises:
            TransientError: the ledger cannot be reached.
        """
        now = datetime.now(UTC)
        lost = (KEPT_ANSWERS.c.status.is_(None)) & (KEPT_ANSWERS.c.at < now - ABANDONED)
        row = {"tenant": tenant, "key": key, "request": request, "at": now}
        with self._database.write() as connection:
            connection.execute(sa.delete(KEPT_ANSWERS).where((KEPT_ANSWERS.c.at < now - KEPT) | lost))
            if insert_if_absent(connection, KEPT_ANSWERS, row):
                return None
            found = connection.execute(sa.select(KEPT_ANSWERS).where(_named(tenant, key))).one_or_none()
        if found is None:  # let go in this very moment
            return Refusal.IN_PROGRESS
        if found.request != request:
            return Refusal.OTHER_REQUEST
        if found.status is None:
            return Refusal.IN_PROGRESS
        return KeptAnswer(found.status, found.headers, found.body)

    def keep(self, tenant: str, key: str, answer: KeptAnswer) -> None:
        """Keep the answer to a request whose key was taken.

        Raises:
            TransientError: the ledger cannot be reached.
        """
        values = {"status": answer.status, "headers": answer.headers, "body": answer.body}
        with self._database.write() as connection:
            connection.execute(sa.update(KEPT_ANSWERS).where(_named(tenant, key)).values(values))

    def release(self, tenant: str, key: str) -> None:
        """Let go of a key whose request had no effect, so that it may be sent again.

        Raises:
            TransientError: the ledger cannot be reached.
        """
        with self._database.write() as connection:
            connection.execute(sa.delete(KEPT_ANSWERS).where(_named(tenant, key) & KEPT_ANSWERS.c.status.is_(None)))


def _named(tenant: str, key: str) -> sa.ColumnElement[bool]:
    return (KEPT_ANSWERS.c.tenant == tenant) & (KEPT_ANSWERS.c.key == key)
