"""The ledger's tables. Records that are only ever read whole are kept as their JSON in a column ``record``."""

from datetime import UTC, datetime

from sqlalchemy import (
    JSON,
    Column,
    DateTime,
    Dialect,
    ForeignKeyConstraint,
    Integer,
    MetaData,
    PrimaryKeyConstraint,
    String,
    Table,
    Text,
    TypeDecorator,
)


class UtcDateTime(TypeDecorator[datetime]):
    """A moment in UTC; SQLite keeps no time zone, so it is taken off and put back here."""

    impl = DateTime
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Store a moment of any zone as naive UTC."""
        return None if value is None else value.astimezone(UTC).replace(tzinfo=None)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Read naive UTC back as a moment."""
        return None if value is None else value.replace(tzinfo=UTC)


METADATA = MetaData()

SERVED_VERSIONS = Table(
    "served_versions",
    METADATA,
    Column("model", String(63), nullable=False),
    Column("version", Integer, nullable=False),
    Column("record", Text, nullable=False),
    Column("admitted_at", UtcDateTime, nullable=False),
    PrimaryKeyConstraint("model", "version", name="pk_served_versions"),
)

ROUTES = Table(
    "routes",
    METADATA,
    Column("model", String(63), nullable=False),
    Column("generation", Integer, nullable=False),
    Column("champion", Integer, nullable=False),
    Column("split", JSON, nullable=False),
    Column("policy", JSON, nullable=False, server_default="{}"),
    Column("shadow", JSON(none_as_null=True), nullable=True),
    Column("updated_at", UtcDateTime, nullable=False),
    PrimaryKeyConstraint("model", name="pk_routes"),
    ForeignKeyConstraint(
        ["model", "champion"],
        ["served_versions.model", "served_versions.version"],
        name="fk_routes_champion",
    ),
)

RELEASE_EVENTS = Table(
    "release_events",
    METADATA,
    Column("model", String(63), nullable=False),
    Column("generation", Integer, nullable=False),
    Column("action", String(16), nullable=False),
    Column("champion", Integer, nullable=False),
    Column("previous", Integer, nullable=True),
    Column("policy", JSON, nullable=False, server_default="{}"),
    Column("shadow", JSON(none_as_null=True), nullable=True),
    Column("actor", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("at", UtcDateTime, nullable=False),
    PrimaryKeyConstraint("model", "generation", name="pk_release_events"),
)

OPTIMIZATIONS = Table(
    "optimizations",
    METADATA,
    Column("id", String(64), nullable=False),
    Column("model", String(63), nullable=False, index=True),
    Column("created_at", UtcDateTime, nullable=False),
    Column("record", Text, nullable=False),
    PrimaryKeyConstraint("id", name="pk_optimizations"),
)

FEEDBACK = Table(
    "feedback",
    METADATA,
    Column("model", String(63), nullable=False),
    Column("request_id", String(128), nullable=False),
    Column("labels", JSON, nullable=False),
    Column("at", UtcDateTime, nullable=False),
    PrimaryKeyConstraint("model", "request_id", name="pk_feedback"),
)

DRIFT_REPORTS = Table(
    "drift_reports",
    METADATA,
    Column("model", String(63), nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("record", Text, nullable=False),
    PrimaryKeyConstraint("model", "created_at", name="pk_drift_reports"),
)
