"""Tenants with their keys and what they own, the audit, usage; model columns take qualified names."""

from datetime import UTC, datetime

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_GENESIS = "0" * 64


def upgrade() -> None:
    _widen_models()
    _create_tenants()
    _create_audit()
    _create_usage()


def _widen_models() -> None:
    """The key between routes and versions goes first: SQLite makes each table anew."""
    with op.batch_alter_table("routes") as routes:
        routes.drop_constraint("fk_routes_champion", type_="foreignkey")
    for table in ("served_versions", "routes", "release_events", "optimizations", "feedback", "drift_reports"):
        with op.batch_alter_table(table) as widened:
            widened.alter_column("model", type_=sa.String(95), existing_type=sa.String(63), existing_nullable=False)
    with op.batch_alter_table("routes") as routes:
        routes.create_foreign_key("fk_routes_champion", "served_versions", ["model", "champion"], ["model", "version"])


def _create_tenants() -> None:
    tenants = op.create_table(
        "tenants",
        sa.Column("name", sa.String(31), nullable=False),
        sa.Column("quotas", sa.JSON, nullable=False),
        sa.Column("state", sa.String(8), nullable=False),
        sa.Column("made_at", sa.DateTime, nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_tenants"),
    )
    made_at = datetime.now(UTC).replace(tzinfo=None)
    op.bulk_insert(tenants, [{"name": "default", "quotas": {}, "state": "open", "made_at": made_at}])
    op.create_table(
        "api_keys",
        sa.Column("id", sa.String(12), nullable=False),
        sa.Column("tenant", sa.String(31), nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("scopes", sa.JSON, nullable=False),
        sa.Column("label", sa.Text, nullable=False),
        sa.Column("made_at", sa.DateTime, nullable=False),
        sa.Column("expires_at", sa.DateTime, nullable=True),
        sa.Column("revoked_at", sa.DateTime, nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_api_keys"),
        sa.ForeignKeyConstraint(["tenant"], ["tenants.name"], name="fk_api_keys_tenant"),
    )
    op.create_index("ix_api_keys_tenant", "api_keys", ["tenant"])
    op.create_table(
        "artifact_owners",
        sa.Column("tenant", sa.String(31), nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("size_bytes", sa.BigInteger, nullable=False),
        sa.Column("at", sa.DateTime, nullable=False),
        sa.PrimaryKeyConstraint("tenant", "sha256", name="pk_artifact_owners"),
    )


def _create_audit() -> None:
    op.create_table(
        "audit",
        sa.Column("sequence", sa.BigInteger, nullable=False, autoincrement=False),
        sa.Column("at", sa.DateTime, nullable=False),
        sa.Column("tenant", sa.String(31), nullable=False),
        sa.Column("actor", sa.Text, nullable=False),
        sa.Column("source", sa.Text, nullable=False),
        sa.Column("action", sa.Text, nullable=False),
        sa.Column("target", sa.Text, nullable=False),
        sa.Column("outcome", sa.Text, nullable=False),
        sa.Column("evidence", sa.Text, nullable=False),
        sa.Column("previous", sa.String(64), nullable=False),
        sa.Column("hash", sa.String(64), nullable=False),
        sa.PrimaryKeyConstraint("sequence", name="pk_audit"),
    )
    op.create_index("ix_audit_tenant", "audit", ["tenant"])
    head = op.create_table(
        "audit_head",
        sa.Column("id", sa.Integer, nullable=False, autoincrement=False),
        sa.Column("sequence", sa.BigInteger, nullable=False),
        sa.Column("hash", sa.String(64), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_audit_head"),
    )
    op.bulk_insert(head, [{"id": 1, "sequence": 0, "hash": _GENESIS}])


def _create_usage() -> None:
    op.create_table(
        "usage",
        sa.Column("tenant", sa.String(31), nullable=False),
        sa.Column("model", sa.String(63), nullable=False),
        sa.Column("hour", sa.DateTime, nullable=False),
        sa.Column("requests", sa.BigInteger, nullable=False),
        sa.Column("failed", sa.BigInteger, nullable=False),
        sa.Column("compute_ns", sa.BigInteger, nullable=False),
        sa.Column("received_bytes", sa.BigInteger, nullable=False),
        sa.Column("sent_bytes", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("tenant", "model", "hour", name="pk_usage"),
    )
    op.create_table(
        "usage_readings",
        sa.Column("boot", sa.String(64), nullable=False),
        sa.Column("counted", sa.JSON, nullable=False),
        sa.Column("at", sa.DateTime, nullable=False),
        sa.PrimaryKeyConstraint("boot", name="pk_usage_readings"),
    )
