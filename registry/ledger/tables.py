"""The ledger's tables. Records that are only ever read whole are kept as their JSON in a column ``record``."""

from datetime import UTC, datetime

from sqlalchemy import (
    JSON,
    BigInteger,
    Column,
    DateTime,
    Dialect,
    Float,
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
    Column("model", String(95), nullable=False),
    Column("version", Integer, nullable=False),
    Column("record", Text, nullable=False),
    Column("admitted_at", UtcDateTime, nullable=False),
    PrimaryKeyConstraint("model", "version", name="pk_served_versions"),
)

ROUTES = Table(
    "routes",
    METADATA,
    Column("model", String(95), nullable=False),
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
    Column("model", String(95), nullable=False),
    Column("generation", Integer, nullable=False),
    Column("action", String(16), nullable=False),
    Column("champion", Integer, nullable=False),
    Column("previous", Integer, nullable=True),
    Column("policy", JSON, nullable=False, server_default="{}"),
    Column("shadow", JSON(none_as_null=True), nullable=True),
    Column("split", JSON(none_as_null=True), nullable=True),
    Column("actor", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("at", UtcDateTime, nullable=False),
    PrimaryKeyConstraint("model", "generation", name="pk_release_events"),
)

OPTIMIZATIONS = Table(
    "optimizations",
    METADATA,
    Column("id", String(64), nullable=False),
    Column("model", String(95), nullable=False, index=True),
    Column("created_at", UtcDateTime, nullable=False),
    Column("record", Text, nullable=False),
    PrimaryKeyConstraint("id", name="pk_optimizations"),
)

FEEDBACK = Table(
    "feedback",
    METADATA,
    Column("model", String(95), nullable=False),
    Column("request_id", String(128), nullable=False),
    Column("labels", JSON, nullable=False),
    Column("score", Float, nullable=True),
    Column("at", UtcDateTime, nullable=False),
    PrimaryKeyConstraint("model", "request_id", name="pk_feedback"),
)

EXPERIMENTS = Table(
    "experiments",
    METADATA,
    Column("id", String(32), nullable=False),
    Column("model", String(95), nullable=False, index=True),
    Column("started_at", UtcDateTime, nullable=False),
    Column("ended_at", UtcDateTime, nullable=True),
    Column("record", Text, nullable=False),
    PrimaryKeyConstraint("id", name="pk_experiments"),
)

DRIFT_REPORTS = Table(
    "drift_reports",
    METADATA,
    Column("model", String(95), nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("record", Text, nullable=False),
    PrimaryKeyConstraint("model", "created_at", name="pk_drift_reports"),
)

TENANTS = Table(
    "tenants",
    METADATA,
    Column("name", String(31), nullable=False),
    Column("quotas", JSON, nullable=False),
    Column("state", String(8), nullable=False),
    Column("made_at", UtcDateTime, nullable=False),
    PrimaryKeyConstraint("name", name="pk_tenants"),
)

API_KEYS = Table(
    "api_keys",
    METADATA,
    Column("id", String(12), nullable=False),
    Column("tenant", String(31), nullable=False, index=True),
    Column("sha256", String(64), nullable=False),
    Column("scopes", JSON, nullable=False),
    Column("label", Text, nullable=False),
    Column("made_at", UtcDateTime, nullable=False),
    Column("expires_at", UtcDateTime, nullable=True),
    Column("revoked_at", UtcDateTime, nullable=True),
    PrimaryKeyConstraint("id", name="pk_api_keys"),
    ForeignKeyConstraint(["tenant"], ["tenants.name"], name="fk_api_keys_tenant"),
)

ARTIFACT_OWNERS = Table(
    "artifact_owners",
    METADATA,
    Column("tenant", String(31), nullable=False),
    Column("sha256", String(64), nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("at", UtcDateTime, nullable=False),
    PrimaryKeyConstraint("tenant", "sha256", name="pk_artifact_owners"),
)

AUDIT = Table(
    "audit",
    METADATA,
    Column("sequence", BigInteger, nullable=False, autoincrement=False),
    Column("at", UtcDateTime, nullable=False),
    Column("tenant", String(31), nullable=False, index=True),
    Column("actor", Text, nullable=False),
    Column("source", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("target", Text, nullable=False),
    Column("outcome", Text, nullable=False),
    Column("evidence", Text, nullable=False),
    Column("previous", String(64), nullable=False),
    Column("hash", String(64), nullable=False),
    PrimaryKeyConstraint("sequence", name="pk_audit"),
)

AUDIT_HEAD = Table(
    "audit_head",
    METADATA,
    Column("id", Integer, nullable=False, autoincrement=False),
    Column("sequence", BigInteger, nullable=False),
    Column("hash", String(64), nullable=False),
    PrimaryKeyConstraint("id", name="pk_audit_head"),
)

USAGE = Table(
    "usage",
    METADATA,
    Column("tenant", String(31), nullable=False),
    Column("model", String(63), nullable=False),
    Column("hour", UtcDateTime, nullable=False),
    Column("requests", BigInteger, nullable=False),
    Column("failed", BigInteger, nullable=False),
    Column("compute_ns", BigInteger, nullable=False),
    Column("received_bytes", BigInteger, nullable=False),
    Column("sent_bytes", BigInteger, nullable=False),
    PrimaryKeyConstraint("tenant", "model", "hour", name="pk_usage"),
)

USAGE_READINGS = Table(
    "usage_readings",
    METADATA,
    Column("boot", String(64), nullable=False),
    Column("counted", JSON, nullable=False),
    Column("at", UtcDateTime, nullable=False),
    PrimaryKeyConstraint("boot", name="pk_usage_readings"),
)

KEPT_ANSWERS = Table(
    "kept_answers",
    METADATA,
    Column("tenant", String(31), nullable=False),
    Column("key", String(255), nullable=False),
    Column("request", String(64), nullable=False),
    Column("at", UtcDateTime, nullable=False, index=True),
    Column("status", Integer, nullable=True),
    Column("headers", JSON(none_as_null=True), nullable=True),
    Column("body", Text, nullable=True),
    PrimaryKeyConstraint("tenant", "key", name="pk_kept_answers"),
)
