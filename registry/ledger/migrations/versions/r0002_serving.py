"""The serving policy and the shadow of each route, and of each event in its history."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for table in ("routes", "release_events"):
        op.add_column(table, sa.Column("policy", sa.JSON, nullable=False, server_default="{}"))
        op.add_column(table, sa.Column("shadow", sa.JSON, nullable=True))
