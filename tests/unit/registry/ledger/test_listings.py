"""Listings on SQLite: a tenant's page is found by the index, whatever other tenants have."""

from pathlib import Path

import sqlalchemy as sa

from registry.ledger.database import Database
from registry.ledger.listings import Listings
from registry.ledger.tables import METADATA


def test_a_page_of_a_tenants_models_is_one_statement_that_reads_by_the_index(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'ledger.db'}")
    METADATA.create_all(database.engine)
    asked: list[tuple[str, tuple[object, ...]]] = []
    sa.event.listen(database.engine, "before_cursor_execute", lambda *found: asked.append((found[2], found[3])))
    Listings(database).models("acme", 10, prefix="a_", contains="b", after="acme.a_a")
    ((statement, values),) = [one for one in asked if one[0].startswith("SELECT")]
    with database.read() as connection:
        plan = [row[-1] for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", values)]
    database.close()
    assert any(step.startswith("SEARCH served_versions USING COVERING INDEX") for step in plan), plan
    assert not any(step.startswith("SCAN served_versions") for step in plan), plan
