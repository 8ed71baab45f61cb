"""Routes with their history, the versions that may serve, optimizations, feedback, drift reports."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "served_versions",
        sa.Column("model", sa.String(63), nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("record", sa.Text, nullable=False),
        sa.Column("admitted_at", sa.DateTime, nullable=False),
        sa.PrimaryKeyConstraint("model", "version", name="pk_served_versions"),
    )
    op.create_table(
        "routes",
        sa.Column("model", sa.String(63), nullable=False),
        sa.Column("generation", sa.Integer, nullable=False),
        sa.Column("champion", sa.Integer, nullable=False),
        sa.Column("split", sa.JSON, nullable=False),
        sa.Column("updated_at", sa.DateTime, nullable=False),
        sa.PrimaryKeyConstraint("model", name="pk_routes"),
        sa.ForeignKeyConstraint(
            ["model", "champion"],
            ["served_versions.model", "served_versions.version"],
            name="fk_routes_champion",
        ),
    )
    _create_events()
    _create_optimizations()


def _create_events() -> None:
    op.create_table(
        "release_events",
        sa.Column("model", sa.String(63), nullable=False),
        sa.Column("generation", sa.Integer, nullable=False),
        sa.Column("action", sa.String(16), nullable=False),
        sa.Column("champion", sa.Integer, nullable=False),
        sa.Column("previous", sa.Integer, nullable=True),
        sa.Column("actor", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("at", sa.DateTime, nullable=False),
        sa.PrimaryKeyConstraint("model", "generation", name="pk_release_events"),
    )


def _create_optimizations() -> None:
    op.create_table(
        "optimizations",
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("model", sa.String(63), nullable=False),
        sa.Column("created_at", sa.DateTime, nullable=False),
        sa.Column("record", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_optimizations"),
    )
    op.create_index("ix_optimizations_model", "optimizations", ["model"])
    op.create_table(
        "feedback",
        sa.Column("model", sa.String(63), nullable=False),
        sa.Column("request_id", sa.String(128), nullable=False),
        sa.Column("labels", sa.JSON, nullable=False),
        sa.Column("at", sa.DateTime, nullable=False),
        sa.PrimaryKeyConstraint("model", "request_id", name="pk_feedback"),
    )
    op.create_table(
        "drift_reports",
        sa.Column("model", sa.String(63), nullable=False),
        sa.Column("created_at", sa.DateTime, nullable=False),
        sa.Column("record", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("model", "created_at", name="pk_drift_reports"),
    )
