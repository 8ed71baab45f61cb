"""The audit on SQLite and on Postgres: it grows under concurrent writers, and what is changed behind it shows."""

import threading

import pytest
import sqlalchemy as sa

from registry.errors import RegistryError
from registry.ledger.ledger import Ledger
from registry.ledger.tables import AUDIT, AUDIT_HEAD
from registry.records.audit import GENESIS, AuditDraft

TABLES = (AUDIT, AUDIT_HEAD)


def draft(target: str, tenant: str | None = "acme") -> AuditDraft:
    evidence = {"artifact": "a" * 64, "generation": 3, "gate": {"margin": 0.01}}
    return AuditDraft(
        tenant=tenant,
        actor="ana",
        source="10.0.0.1",
        action="promote",
        target=target,
        outcome="done",
        evidence=evidence,
    )


@pytest.fixture
def chain(ledger: Ledger) -> Ledger:
    """A ledger with five entries."""
    for number in range(1, 6):
        ledger.audit.append(draft(f"m{number}"))
    return ledger


def test_each_entry_seals_the_one_before(chain: Ledger) -> None:
    chain.audit.append(draft("nobody", tenant=None))
    entries = chain.audit.entries(tenant=None, limit=10)[::-1]
    assert [entry.sequence for entry in entries] == [1, 2, 3, 4, 5, 6]
    assert [entry.previous for entry in entries] == [GENESIS, *(entry.hash for entry in entries[:-1])]
    assert entries[-1].tenant is None
    verdict = chain.audit.verify()
    assert (verdict.entries, verdict.broken, verdict.head.hash) == (6, None, entries[-1].hash)


def test_a_tenant_reads_its_own_entries_page_by_page(chain: Ledger) -> None:
    chain.audit.append(draft("other", tenant="other"))
    first = chain.audit.entries(tenant="acme", limit=2)
    second = chain.audit.entries(tenant="acme", before=first[-1].sequence, limit=9)
    assert [entry.target for entry in (*first, *second)] == ["m5", "m4", "m3", "m2", "m1"]


TAMPERING = [
    ("UPDATE audit SET actor = 'ben' WHERE sequence = 3", "entry 3 was changed"),
    ("UPDATE audit SET evidence = '{}' WHERE sequence = 2", "entry 2 was changed"),
    ("UPDATE audit SET evidence = 'x' WHERE sequence = 2", "entry 2 is no longer an entry"),
    ("UPDATE audit SET tenant = 'other' WHERE sequence = 1", "entry 1 was changed"),
    ("UPDATE audit SET at = '2026-01-01 00:00:00' WHERE sequence = 5", "entry 5 was changed"),
    ("UPDATE audit SET hash = previous WHERE sequence = 4", "entry 4 was changed"),
    ("DELETE FROM audit WHERE sequence = 1", "entry 1 is missing"),
    ("DELETE FROM audit WHERE sequence = 3", "entry 3 is missing"),
    ("DELETE FROM audit WHERE sequence >= 4", "entry 4 is missing"),
    ("DELETE FROM audit", "entry 1 is missing"),
    ("UPDATE audit_head SET sequence = 4", "entry 4 is not the one that the head names"),
    ("UPDATE audit_head SET hash = 'x'", "the head of the audit cannot be read"),
    ("UPDATE audit SET evidence = '" + "[" * 100_000 + "' WHERE sequence = 2", "entry 2 is no longer an entry"),
    ("DELETE FROM audit_head", "the head of the audit is gone"),
    (
        "UPDATE audit SET sequence = CASE sequence WHEN 2 THEN 93 ELSE 92 END WHERE sequence IN (2, 3); "
        "UPDATE audit SET sequence = sequence - 90 WHERE sequence > 90",
        "entry 2 does not name the hash of the one before",
    ),
]


def test_what_was_done_behind_its_back_is_named_at_the_first_broken_entry(chain: Ledger, ledger_url: str) -> None:
    engine = sa.create_engine(ledger_url)
    with engine.connect() as connection:
        kept = {table: [dict(row._mapping) for row in connection.execute(sa.select(table))] for table in TABLES}
    for statements, told in TAMPERING:
        with engine.begin() as connection:
            for statement in statements.split("; "):
                connection.exec_driver_sql(statement)
        assert (chain.audit.verify().broken or "").startswith(told)
        with engine.begin() as connection:
            for table, rows in kept.items():
                connection.execute(sa.delete(table))
                connection.execute(sa.insert(table), rows)
        assert chain.audit.verify().broken is None
    engine.dispose()


def test_a_moment_that_is_none_any_more_is_named(chain: Ledger, ledger_url: str) -> None:
    engine = sa.create_engine(ledger_url)
    moment = "yesterday" if engine.dialect.name == "sqlite" else "infinity"
    with engine.begin() as connection:
        connection.exec_driver_sql(f"UPDATE audit SET at = '{moment}' WHERE sequence = 2")
    engine.dispose()
    assert chain.audit.verify().broken == "entry 2 is no longer an entry: a value cannot be read"
    with pytest.raises(RegistryError, match="entry 2 of the audit cannot be read"):
        chain.audit.entries(tenant=None, limit=10)


def test_an_end_cut_off_with_its_head_shows_against_a_head_that_was_written_down(
    chain: Ledger, ledger_url: str
) -> None:
    written_down = chain.audit.verify().head
    engine = sa.create_engine(ledger_url)
    with engine.begin() as connection:
        connection.exec_driver_sql("DELETE FROM audit WHERE sequence > 3")
        connection.exec_driver_sql(
            "UPDATE audit_head SET sequence = 3, hash = (SELECT hash FROM audit WHERE sequence = 3)"
        )
    engine.dispose()
    assert chain.audit.verify().broken is None
    assert chain.audit.verify(written_down).broken == "entry 4 is missing: the checkpoint counts 5 entries"
    for number in (4, 5):
        chain.audit.append(draft(f"forged {number}"))
    assert chain.audit.verify().broken is None
    assert "entry 5 is not the one of the checkpoint" in str(chain.audit.verify(written_down).broken)


def test_nothing_is_appended_to_an_audit_without_its_head(chain: Ledger, ledger_url: str) -> None:
    engine = sa.create_engine(ledger_url)
    with engine.begin() as connection:
        connection.exec_driver_sql("DELETE FROM audit_head")
    engine.dispose()
    with pytest.raises(RegistryError, match="the head of the audit is gone"):
        chain.audit.append(draft("m6"))


def _append(url: str, name: str) -> None:
    ledger = Ledger(url)
    for number in range(10):
        ledger.audit.append(draft(f"{name}-{number}"))
    ledger.close()


def test_writers_at_once_make_one_chain(ledger: Ledger, ledger_url: str) -> None:
    writers = [threading.Thread(target=_append, args=(ledger_url, name)) for name in "ab"]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    targets = {entry.target for entry in ledger.audit.entries(tenant=None, limit=100)}
    assert targets == {f"{name}-{number}" for name in "ab" for number in range(10)}
    verdict = ledger.audit.verify()
    assert (verdict.entries, verdict.broken) == (20, None)
