"""Budgets, their counters and alerts, own prices, and the day a model call belongs to."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import ARRAY

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

_NOW = sa.text("clock_timestamp()")
_TODAY = sa.text("(clock_timestamp() AT TIME ZONE 'UTC')::date")
_CALL_COLUMNS = ("day", "is_budgeted", "is_unpriced", "reserved_tokens")


def upgrade() -> None:
    _add_call_columns()
    op.create_table(
        "platform_budget",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("monthly_limit_usd", sa.Numeric(18, 9), nullable=False),
        sa.Column("alert_thresholds", ARRAY(sa.Numeric(9, 6)), nullable=False),
        sa.Column("hard_stop", sa.Boolean(), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=_NOW, nullable=False),
        sa.CheckConstraint("id = 1", name="ck_platform_budget_single"),
        sa.PrimaryKeyConstraint("id", name="pk_platform_budget"),
    )
    op.create_table(
        "budget_counters",
        sa.Column("scope", sa.String(16), nullable=False),
        sa.Column("owner_id", sa.BigInteger(), nullable=False),
        sa.Column("since", sa.Date(), nullable=False),
        sa.Column("spent_usd", sa.Numeric(18, 9), server_default="0", nullable=False),
        sa.Column("reserved_usd", sa.Numeric(18, 9), server_default="0", nullable=False),
        sa.Column("refused_usd", sa.Numeric(18, 9), server_default="0", nullable=False),
        sa.Column("alert_at_usd", sa.Numeric(18, 9), nullable=True),
        sa.CheckConstraint(
            "spent_usd >= 0 AND reserved_usd >= 0", name="ck_budget_counters_sums"
        ),
        sa.PrimaryKeyConstraint("scope", "owner_id", "since", name="pk_budget_counters"),
    )
    op.create_index(
        "ix_budget_counters_refused",
        "budget_counters",
        ["since"],
        postgresql_where=sa.text("refused_usd > 0"),
    )
    op.create_table(
        "budget_alerts",
        sa.Column("id", sa.BigInteger(), sa.Identity(), nullable=False),
        sa.Column("month", sa.Date(), nullable=False),
        sa.Column("threshold", sa.Numeric(9, 6), nullable=False),
        sa.Column("level", sa.String(16), nullable=False),
        sa.Column("message", sa.String(500), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_budget_alerts"),
    )
    op.create_index(
        "uq_budget_alerts_month", "budget_alerts", ["month", "threshold"], unique=True
    )
    op.create_table(
        "model_prices",
        sa.Column("provider", sa.String(64), nullable=False),
        sa.Column("model", sa.String(255), nullable=False),
        sa.Column("input_usd_per_million", sa.Numeric(18, 9), nullable=False),
        sa.Column("output_usd_per_million", sa.Numeric(18, 9), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=_NOW, nullable=False),
        sa.PrimaryKeyConstraint("provider", "model", name="pk_model_prices"),
    )


def _add_call_columns() -> None:
    op.add_column("model_calls", sa.Column("day", sa.Date(), nullable=True))
    op.execute("UPDATE model_calls SET day = (created_at AT TIME ZONE 'UTC')::date")
    op.alter_column("model_calls", "day", nullable=False, server_default=_TODAY)
    for name in ("is_budgeted", "is_unpriced"):
        op.add_column(
            "model_calls", sa.Column(name, sa.Boolean(), server_default="false", nullable=False)
        )
    op.add_column(
        "model_calls",
        sa.Column("reserved_tokens", sa.Integer(), server_default="0", nullable=False),
    )
    op.create_index(
        "ix_model_calls_spent",
        "model_calls",
        ["day"],
        postgresql_include=[
            "agent_id", "provider", "model", "cost_usd", "tokens_in", "tokens_out",
        ],
        postgresql_where=sa.text("status <> 'reserved'"),
    )  # fmt: skip
    op.create_index("ix_model_calls_agent_day", "model_calls", ["agent_id", "day"])
    op.drop_index("ix_model_calls_agent_id", "model_calls")


def downgrade() -> None:
    for table in ("model_prices", "budget_alerts", "budget_counters", "platform_budget"):
        op.drop_table(table)
    op.create_index("ix_model_calls_agent_id", "model_calls", ["agent_id"])
    for name in ("ix_model_calls_agent_day", "ix_model_calls_spent"):
        op.drop_index(name, "model_calls")
    for name in _CALL_COLUMNS:
        op.drop_column("model_calls", name)
