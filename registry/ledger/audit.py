"""The audit in the ledger: appended to, never changed; a change made behind its back shows."""

import json
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from registry.digest import canonical_json
from registry.errors import RegistryError
from registry.ledger.database import Database
from registry.ledger.tables import AUDIT, AUDIT_HEAD
from registry.records.audit import GENESIS, AuditDraft, AuditEntry, AuditHead, AuditVerdict

_NOBODY = ""
"""What stands in the column for who had no valid key: a tenant's name has at least one character."""
_NOTHING = AuditHead(sequence=0, hash=GENESIS)
_ROWS_AT_ONCE = 1000

_HEAD = sa.select(AUDIT_HEAD.c.sequence, AUDIT_HEAD.c.hash).with_for_update()
_APPEND = sa.insert(AUDIT)
_MOVE_HEAD = sa.update(AUDIT_HEAD)
_COLUMNS = [column if column.name != "at" else sa.cast(column, sa.Text).label("at") for column in AUDIT.c]
"""An entry with its moment as it stands there: one that is none any more must not stop who reads it."""


class Audit:
    """One chain for all tenants."""

    def __init__(self, database: Database) -> None:
        """Use a ledger's database."""
        self._database = database

    def append(self, draft: AuditDraft) -> AuditEntry:
        """Give a draft the next place in the chain; writers wait for each other at the head.

        Raises:
            RegistryError: somebody has removed the head.
        """
        with self._database.write() as connection:
            head = _locked_head(connection)
            entry = _seal(draft, head)
            connection.execute(_APPEND, _row(entry))
            connection.execute(_MOVE_HEAD, {"sequence": entry.sequence, "hash": entry.hash})
        return entry

    def entries(self, *, tenant: str | None, before: int | None = None, limit: int) -> tuple[AuditEntry, ...]:
        """Return the newest entries of one tenant, or with None of all, newest first.

        Args:
            tenant: whose.
            before: only those with a smaller sequence number.
            limit: how many at most.

        Raises:
            RegistryError: somebody has changed one, so that it cannot be read.
        """
        query = sa.select(*_COLUMNS).order_by(AUDIT.c.sequence.desc()).limit(limit)
        if tenant is not None:
            query = query.where(AUDIT.c.tenant == tenant)
        if before is not None:
            query = query.where(AUDIT.c.sequence < before)
        with self._database.read() as connection:
            return tuple(_entry(row) for row in connection.execute(query))

    def verify(self, checkpoint: AuditHead | None = None) -> AuditVerdict:
        """Walk the whole chain, and hold it against the head, and against one that was written down before.

        Args:
            checkpoint: a head that an earlier verification printed.
        """
        # One statement, so that entries which are appended meanwhile are neither missed nor too many.
        newest = sa.select(sa.func.max(AUDIT.c.sequence)).scalar_subquery()
        with self._database.read() as connection:
            row = connection.execute(sa.select(AUDIT_HEAD.c.sequence, AUDIT_HEAD.c.hash, newest)).one_or_none()
            if row is None:
                return AuditVerdict(entries=0, head=_NOTHING, broken="the head of the audit is gone")
            try:
                head = _head(row[0], row[1])
            except RegistryError as error:
                return AuditVerdict(entries=0, head=_NOTHING, broken=str(error))
            rows = connection.execution_options(yield_per=_ROWS_AT_ONCE).execute(
                sa.select(*_COLUMNS).where(AUDIT.c.sequence <= head.sequence).order_by(AUDIT.c.sequence)
            )
            last, broken = _walk(rows, checkpoint)
        broken = broken or _end_fault(last, head, row[2] or 0, checkpoint)
        return AuditVerdict(entries=last.sequence, head=last, broken=broken)


def _end_fault(last: AuditHead, head: AuditHead, newest: int, checkpoint: AuditHead | None) -> str | None:
    """Say what is wrong at the end of a chain whose entries hold."""
    if last.sequence < head.sequence:
        return f"entry {last.sequence + 1} is missing: the head counts {head.sequence} entries"
    if last.hash != head.hash:
        return f"entry {last.sequence} is not the one that the head names"
    if newest > head.sequence:
        return f"entry {head.sequence + 1} is beyond the head, which counts {head.sequence} entries"
    if checkpoint is not None and checkpoint.sequence > last.sequence:
        return f"entry {last.sequence + 1} is missing: the checkpoint counts {checkpoint.sequence} entries"
    return None


def _walk(rows: Iterable[Any], checkpoint: AuditHead | None) -> tuple[AuditHead, str | None]:
    """Return the last entry that holds, and what is wrong with the one after it."""
    last = _NOTHING
    for row in rows:
        for fault in _faults(row, last, checkpoint):
            return last, fault
        last = AuditHead(sequence=row.sequence, hash=row.hash)
    return last, None


def _faults(row: Any, last: AuditHead, checkpoint: AuditHead | None) -> Iterator[str]:  # noqa: ANN401
    place = last.sequence + 1
    if row.sequence != place:
        yield f"entry {place} is missing: entry {row.sequence} follows on {last.sequence}"
    if row.previous != last.hash:
        yield f"entry {place} does not name the hash of the one before it"
    try:
        entry = _entry(row)
    except RegistryError:
        yield f"entry {place} is no longer an entry: a value cannot be read"
        return
    if entry.sealed != entry.hash:
        yield f"entry {place} was changed: its content has another hash ({entry.action} {entry.target})"
    if checkpoint is not None and checkpoint.sequence == place and checkpoint.hash != entry.hash:
        yield f"entry {place} is not the one of the checkpoint: the chain was written anew"


def _locked_head(connection: sa.Connection) -> AuditHead:
    row = connection.execute(_HEAD).one_or_none()
    if row is None:
        raise RegistryError("the head of the audit is gone, so nothing is written to it; run `burnish audit verify`")
    return _head(row.sequence, row.hash)


def _head(sequence: Any, sealed: Any) -> AuditHead:  # noqa: ANN401
    try:
        return AuditHead(sequence=sequence, hash=sealed)
    except ValueError as error:
        raise RegistryError("the head of the audit cannot be read; run `burnish audit verify`") from error


def _seal(draft: AuditDraft, head: AuditHead) -> AuditEntry:
    unsealed = AuditEntry(
        **draft.model_dump(), sequence=head.sequence + 1, at=datetime.now(UTC), previous=head.hash, hash=GENESIS
    )
    return unsealed.model_copy(update={"hash": unsealed.sealed})


def _row(entry: AuditEntry) -> dict[str, Any]:
    return entry.model_dump() | {
        "tenant": entry.tenant or _NOBODY,
        "evidence": canonical_json(entry.evidence).decode(),
    }


def _entry(row: Any) -> AuditEntry:  # noqa: ANN401
    values = dict(row._mapping)
    try:
        at, evidence = datetime.fromisoformat(row.at).replace(tzinfo=UTC), json.loads(row.evidence)
        return AuditEntry(**values | {"at": at, "tenant": row.tenant or None, "evidence": evidence})
    except (ValueError, RecursionError) as error:
        raise RegistryError(f"entry {row.sequence} of the audit cannot be read; run `burnish audit verify`") from error
