"""Circuit breakers, and which model a fallback stood in for."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "circuit_breakers",
        sa.Column("name", sa.String(100), nullable=False),
        sa.Column("state", sa.String(16), server_default="closed", nullable=False),
        sa.Column("forced", sa.Boolean(), server_default="false", nullable=False),
        sa.Column("epoch", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("failure_threshold", sa.Integer(), server_default="5", nullable=False),
        sa.Column("recovery_timeout_seconds", sa.Integer(), server_default="60", nullable=False),
        sa.Column("success_threshold", sa.Integer(), server_default="3", nullable=False),
        sa.Column("window_seconds", sa.Integer(), server_default="120", nullable=False),
        sa.Column("half_open_max_requests", sa.Integer(), server_default="3", nullable=False),
        sa.Column(
            "failures", ARRAY(sa.DateTime(timezone=True)), server_default="{}", nullable=False
        ),
        sa.Column("success_count", sa.Integer(), server_default="0", nullable=False),
        sa.Column("total_successes", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("total_failures", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("last_failure", sa.DateTime(timezone=True), nullable=True),
        sa.Column("opened_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("next_attempt_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("probes", JSONB, server_default="[]", nullable=False),
        sa.Column("transitions", JSONB, server_default="[]", nullable=False),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("clock_timestamp()"),
            nullable=False,
        ),
        sa.PrimaryKeyConstraint("name", name="pk_circuit_breakers"),
    )
    op.add_column("model_calls", sa.Column("fallback_for", sa.String(320), nullable=True))


def downgrade() -> None:
    op.drop_column("model_calls", "fallback_for")
    op.drop_table("circuit_breakers")
