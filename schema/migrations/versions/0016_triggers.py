"""Triggers, their firings, what comes in from outside, and a reader's place in the events."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "triggers",
        sa.Column("id", sa.BigInteger(), sa.Identity(), nullable=False),
        sa.Column("name", sa.String(255), nullable=False),
        sa.Column("type", sa.String(16), nullable=False),
        sa.Column("config", JSONB, nullable=False),
        sa.Column("action_type", sa.String(32), nullable=False),
        sa.Column("action_config", JSONB, nullable=False),
        sa.Column("slug", sa.String(64), nullable=True),
        sa.Column("secret", sa.LargeBinary(), nullable=True),
        sa.Column("action_secrets", sa.LargeBinary(), nullable=True),
        sa.Column("secret_names", ARRAY(sa.String(255)), server_default="{}", nullable=False),
        sa.Column("is_active", sa.Boolean(), server_default="true", nullable=False),
        sa.Column("agent_id", sa.BigInteger(), nullable=True),
        sa.Column("fire_count", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("last_fired_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("last_status", sa.String(16), nullable=True),
        sa.Column("revision", sa.Integer(), server_default="1", nullable=False),
        sa.Column("check_every_seconds", sa.Integer(), nullable=True),
        sa.Column("over_since", sa.DateTime(timezone=True), nullable=True),
        sa.Column("has_crossed", sa.Boolean(), server_default="false", nullable=False),
        sa.Column("crossings", sa.Integer(), server_default="0", nullable=False),
        sa.Column("created_by", sa.BigInteger(), nullable=True),
        sa.Column("created_by_key", sa.String(64), nullable=False),
        sa.Column("armed_at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False),
        sa.Column("deleted_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_triggers"),
    )
    op.create_index("ix_triggers_living", "triggers", ["id"], postgresql_where=sa.text("deleted_at IS NULL"))
    op.create_index("ix_triggers_rhythm", "triggers", ["check_every_seconds", "id"], postgresql_where=sa.text("check_every_seconds IS NOT NULL AND deleted_at IS NULL"))
    op.create_index("ix_triggers_type", "triggers", ["type"])
    op.create_index("uq_triggers_slug", "triggers", ["slug"], unique=True, postgresql_where=sa.text("slug IS NOT NULL AND deleted_at IS NULL"))
    op.create_table(
        "trigger_runs",
        sa.Column("id", sa.BigInteger(), sa.Identity(), nullable=False),
        sa.Column("trigger_id", sa.BigInteger(), nullable=False),
        sa.Column("firing_key", sa.String(255), nullable=False),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("event_data", JSONB, nullable=False),
        sa.Column("inbound_id", sa.BigInteger(), nullable=True),
        sa.Column("result", JSONB, server_default="{}", nullable=False),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("chain_depth", sa.SmallInteger(), server_default="0", nullable=False),
        sa.Column("attempts", sa.SmallInteger(), server_default="0", nullable=False),
        sa.Column("made_kind", sa.String(16), nullable=True),
        sa.Column("made_id", sa.BigInteger(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False),
        sa.Column("claimed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("sent_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("duration_ms", sa.Numeric(14, 3), server_default="0", nullable=False),
        sa.ForeignKeyConstraint(["trigger_id"], ["triggers.id"], name="fk_trigger_runs_trigger_id_triggers"),
        sa.PrimaryKeyConstraint("id", name="pk_trigger_runs"),
        sa.UniqueConstraint("trigger_id", "firing_key", name="uq_trigger_runs_trigger_id_firing_key"),
    )
    op.create_index("ix_trigger_runs_inbound", "trigger_runs", ["inbound_id"], postgresql_where=sa.text("inbound_id IS NOT NULL"))
    op.create_index("ix_trigger_runs_made", "trigger_runs", ["made_kind", "made_id"], postgresql_where=sa.text("made_id IS NOT NULL"))
    op.create_index("ix_trigger_runs_trigger", "trigger_runs", ["trigger_id", "id"])
    op.create_table(
        "inbound_events",
        sa.Column("id", sa.BigInteger(), sa.Identity(), nullable=False),
        sa.Column("source", sa.String(80), nullable=False),
        sa.Column("delivery_id", sa.String(255), nullable=False),
        sa.Column("identity", sa.String(64), nullable=True),
        sa.Column("event_name", sa.String(255), nullable=True),
        sa.Column("action", sa.String(255), nullable=True),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("trigger_id", sa.BigInteger(), nullable=True),
        sa.Column("headers", JSONB, nullable=False),
        sa.Column("body", JSONB, nullable=True),
        sa.Column("body_bytes", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_inbound_events"),
        sa.UniqueConstraint("source", "delivery_id", name="uq_inbound_events_source_delivery_id"),
    )
    op.create_index("ix_inbound_events_identity", "inbound_events", ["source", "identity", "id"])
    op.create_table(
        "event_cursors",
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("xid", sa.BigInteger(), nullable=False),
        sa.Column("event_id", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_event_cursors"),
    )


def downgrade() -> None:
    op.drop_table("event_cursors")
    op.drop_table("inbound_events")
    op.drop_table("trigger_runs")
    op.drop_table("triggers")
