"""The ledger's database: connections, transactions and migrations on SQLite and Postgres."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from sqlalchemy.exc import ArgumentError, IntegrityError, NoSuchModuleError, OperationalError

from registry.errors import InputError, TransientError
from registry.file_lock import file_lock

_MIGRATIONS = Path(__file__).parent / "migrations"
_BUSY_MS = 15_000
_CONNECT_S = 5
_MIGRATION_LOCK = 0x6275726E  # any number, the same in every process


class Database:
    """One database by URL: SQLite for a laptop, Postgres beyond.

    On SQLite a write transaction begins with ``BEGIN IMMEDIATE``, so that two processes wait for each other at the
    start instead of failing at the end; reads see the last committed state and never wait.
    """

    def __init__(self, url: str) -> None:
        """Parse the URL; nothing is opened yet.

        Raises:
            InputError: the URL is none, or its driver is not installed.
        """
        self.engine = _engine(url)
        self.sqlite = self.engine.dialect.name == "sqlite"
        if self.sqlite:
            sa.event.listen(self.engine, "connect", _prepare_sqlite)
            sa.event.listen(self.engine, "begin", _begin_sqlite)

    @property
    def name(self) -> str:
        """The URL without its password, for messages."""
        return self.engine.url.render_as_string(hide_password=True)

    def read(self) -> AbstractContextManager[sa.Connection]:
        """Open a transaction that only reads.

        Raises:
            TransientError: the database cannot be reached.
        """
        return self._transaction(write=False)

    def write(self) -> AbstractContextManager[sa.Connection]:
        """Open a transaction that is committed at the end, or rolled back by an exception.

        Raises:
            TransientError: the database cannot be reached or stays locked.
        """
        return self._transaction(write=True)

    def migrate(self) -> None:
        """Bring the schema to the newest revision; any number of processes may call it at once.

        Raises:
            TransientError: the database cannot be reached.
        """
        with self._migration_lock(), self.write() as connection:
            if not self.sqlite:
                connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_MIGRATION_LOCK)))
            config = Config()
            config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
            config.attributes["connection"] = connection
            command.upgrade(config, "head")

    def close(self) -> None:
        """Close every connection."""
        self.engine.dispose()

    @contextmanager
    def _transaction(self, *, write: bool) -> Iterator[sa.Connection]:
        try:
            with self.engine.connect().execution_options(burnish_write=write) as connection, connection.begin():
                yield connection
        except OperationalError as error:
            raise TransientError(f"the ledger {self.name} did not answer: {error.orig}") from error

    def _migration_lock(self) -> AbstractContextManager[None]:
        """Changing a SQLite file to WAL needs it alone and ignores the busy timeout, hence a lock beside the file."""
        return file_lock(Path(f"{self.engine.url.database}.lock")) if self.sqlite else nullcontext()


def insert_if_absent(connection: sa.Connection, table: sa.Table, row: dict[str, Any]) -> bool:
    """Insert a row; False, with nothing changed, if its key is taken."""
    try:
        with connection.begin_nested():
            connection.execute(sa.insert(table).values(row))
    except IntegrityError:
        return False
    return True


def _engine(url: str) -> sa.Engine:
    try:
        parsed = sa.make_url(url)
        if parsed.get_backend_name() != "sqlite":
            return sa.create_engine(parsed, pool_pre_ping=True, connect_args={"connect_timeout": _CONNECT_S})
        if parsed.database in (None, "", ":memory:"):
            raise InputError(f"the ledger's URL {url} names no file, so nothing would be kept; give sqlite:///FILE")
        return sa.create_engine(parsed)
    except (ArgumentError, NoSuchModuleError) as error:
        raise InputError(
            f"the ledger's URL cannot be used ({error}); give sqlite:///FILE or postgresql+psycopg://USER@HOST/DATABASE"
        ) from error
    except ModuleNotFoundError as error:
        raise InputError(
            f"the ledger's database driver {error.name} is not installed; run: pip install 'burnish[postgres]' "
            "and use a URL that begins with postgresql+psycopg://"
        ) from error


def _prepare_sqlite(connection: object, _record: object) -> None:
    connection.isolation_level = None  # type: ignore[attr-defined]  # transactions are begun below, not by the driver
    # As on Postgres, LIKE tells cases apart; only so does it find what begins with something by the index.
    for pragma in (f"busy_timeout={_BUSY_MS}", "foreign_keys=ON", "journal_mode=WAL", "case_sensitive_like=ON"):
        connection.execute(f"PRAGMA {pragma}")  # type: ignore[attr-defined]


def _begin_sqlite(connection: sa.Connection) -> None:
    write = connection.get_execution_options().get("burnish_write")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")
