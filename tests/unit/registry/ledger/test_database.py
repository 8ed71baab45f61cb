"""The ledger's database: which URLs it takes, and what it says when the database is not there."""

from pathlib import Path

import pytest

from registry.errors import InputError, TransientError
from registry.ledger.database import Database
from registry.ledger.ledger import Ledger
from tests.drafts import served
from tests.integration.processes import free_ports


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("ledger.db", "cannot be used"),
        ("nosuch://host/ledger", "cannot be used"),
        ("sqlite://", "names no file"),
        ("sqlite:///:memory:", "names no file"),
        ("mysql://host/ledger", "driver MySQLdb is not installed"),
    ],
)
def test_a_url_that_cannot_be_used_is_an_input_error(url: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Ledger(url)


def test_a_database_that_does_not_answer_is_transient_and_the_password_stays_out() -> None:
    (port,) = free_ports(1)
    ledger = Ledger(f"postgresql+psycopg://burnish:hunter2@127.0.0.1:{port}/ledger")
    for call in (ledger.migrate, ledger.models):
        with pytest.raises(TransientError, match="did not answer") as caught:
            call()
        assert "hunter2" not in str(caught.value)


def test_a_file_that_cannot_be_opened_is_transient(tmp_path: Path) -> None:
    with pytest.raises(TransientError, match="unable to open"):
        Ledger(f"sqlite:///{tmp_path}/missing/ledger.db").models()


def test_sqlite_waits_writes_ahead_and_checks_references(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path}/ledger.db")
    database.migrate()
    with database.read() as connection:
        found = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "foreign_keys", "busy_timeout")
        }
    assert found == {"journal_mode": "wal", "foreign_keys": 1, "busy_timeout": 15_000}
    database.close()


def test_reads_do_not_wait_for_a_writer(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/ledger.db"
    ledger, writer = Ledger(url), Database(url)
    ledger.migrate()
    ledger.admit("digits", served(1))
    with writer.write() as connection:
        connection.exec_driver_sql("DELETE FROM served_versions")
        assert ledger.served("digits") == (served(1),)
    assert ledger.served("digits") == ()


def test_migrating_makes_the_folder_of_a_new_file(tmp_path: Path) -> None:
    ledger = Ledger(f"sqlite:///{tmp_path}/new/home/ledger.db")
    ledger.migrate()
    assert ledger.models() == ()
