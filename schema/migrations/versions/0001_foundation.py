"""Everything the first conversations need."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql
from sqlalchemy.types import UserDefinedType

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


class _Xid8(UserDefinedType):
    cache_ok = True

    def get_col_spec(self, **_):
        return "xid8"


def _id():
    return sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False)


def _instant(name):
    return sa.Column(
        name,
        sa.DateTime(timezone=True),
        server_default=sa.text("clock_timestamp()"),
        nullable=False,
    )


def upgrade() -> None:
    op.execute("CREATE EXTENSION IF NOT EXISTS vector")
    op.create_table(
        "agents",
        _id(),
        sa.Column("slug", sa.String(length=63), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("role", sa.String(length=100), nullable=True),
        sa.Column("provider", sa.String(length=64), nullable=False),
        sa.Column("model", sa.String(length=255), nullable=False),
        sa.Column("personality", postgresql.JSONB(), nullable=False),
        sa.Column("background", postgresql.JSONB(), nullable=False),
        sa.Column("config", postgresql.JSONB(), nullable=False),
        sa.Column("state", sa.String(length=32), server_default="active", nullable=False),
        _instant("created_at"),
        _instant("updated_at"),
        sa.Column("deleted_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_agents"),
    )
    op.create_index(
        "uq_agents_slug",
        "agents",
        ["slug"],
        unique=True,
        postgresql_where=sa.text("deleted_at IS NULL"),
    )
    op.create_table(
        "circles",
        _id(),
        sa.Column("name", sa.String(length=50), nullable=False),
        sa.Column("display_name", sa.String(length=200), nullable=False),
        sa.Column("description", sa.Text(), nullable=True),
        sa.Column("status", sa.String(length=16), server_default="created", nullable=False),
        sa.Column("config", postgresql.JSONB(), nullable=False),
        _instant("created_at"),
        _instant("updated_at"),
        sa.Column("deleted_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_circles"),
    )
    op.create_index(
        "uq_circles_name",
        "circles",
        ["name"],
        unique=True,
        postgresql_where=sa.text("deleted_at IS NULL"),
    )
    op.create_table(
        "events",
        _id(),
        sa.Column("xid", _Xid8(), server_default=sa.text("pg_current_xact_id()"), nullable=False),
        sa.Column("stream", sa.String(length=64), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("type", sa.String(length=64), nullable=False),
        sa.Column("data", postgresql.JSONB(), nullable=False),
        sa.Column("conversation_id", sa.BigInteger(), nullable=True),
        sa.Column("circle_id", sa.BigInteger(), nullable=True),
        sa.Column("agent_id", sa.BigInteger(), nullable=True),
        sa.Column("owner", sa.String(length=64), nullable=True),
        _instant("created_at"),
        sa.PrimaryKeyConstraint("id", name="pk_events"),
        sa.UniqueConstraint("stream", "seq", name="uq_events_stream_seq"),
    )
    op.create_index("ix_events_xid_id", "events", ["xid", "id"], unique=False)
    op.create_table(
        "inbox",
        _id(),
        sa.Column("target", sa.String(length=64), nullable=False),
        sa.Column("principal", sa.String(length=64), nullable=False),
        sa.Column("idempotency_key", sa.String(length=255), nullable=False),
        sa.Column("request_hash", sa.String(length=64), nullable=False),
        sa.Column("prompt", sa.Text(), nullable=True),
        sa.Column("agent_id", sa.BigInteger(), nullable=True),
        sa.Column(
            "mentions", postgresql.ARRAY(sa.BigInteger()), server_default="{}", nullable=False
        ),
        sa.Column("status", sa.String(length=16), server_default="pending", nullable=False),
        sa.Column("turn", sa.Integer(), nullable=True),
        sa.Column("answer", postgresql.JSONB(), nullable=True),
        _instant("created_at"),
        sa.Column("done_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_inbox"),
        sa.UniqueConstraint(
            "principal",
            "target",
            "idempotency_key",
            name="uq_inbox_principal_target_idempotency_key",
        ),
    )
    op.create_index(
        "ix_inbox_waiting",
        "inbox",
        ["target", "id"],
        unique=False,
        postgresql_where=sa.text("status IN ('pending', 'claimed')"),
    )
    op.create_table(
        "outbox",
        _id(),
        sa.Column("target_kind", sa.String(length=32), nullable=False),
        sa.Column("target_id", sa.BigInteger(), nullable=False),
        sa.Column("inbox_id", sa.BigInteger(), nullable=True),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        _instant("due_at"),
        _instant("created_at"),
        sa.PrimaryKeyConstraint("id", name="pk_outbox"),
    )
    op.create_index("ix_outbox_due_at", "outbox", ["due_at"], unique=False)
    op.create_index("ix_outbox_inbox_id", "outbox", ["inbox_id"], unique=False)
    op.create_table(
        "providers",
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("api_key", sa.LargeBinary(), nullable=True),
        sa.Column("base_url", sa.String(length=2048), nullable=True),
        sa.Column("default_model", sa.String(length=255), nullable=True),
        _instant("updated_at"),
        sa.PrimaryKeyConstraint("name", name="pk_providers"),
    )
    op.create_table(
        "settings",
        sa.Column("key", sa.String(length=255), nullable=False),
        sa.Column("value", postgresql.JSONB(), nullable=True),
        _instant("updated_at"),
        sa.PrimaryKeyConstraint("key", name="pk_settings"),
    )
    op.create_table(
        "streams",
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("last_seq", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_streams"),
    )
    op.create_table(
        "circle_members",
        sa.Column("circle_id", sa.BigInteger(), nullable=False),
        sa.Column("agent_id", sa.BigInteger(), nullable=False),
        sa.Column("role", sa.String(length=16), nullable=False),
        _instant("joined_at"),
        sa.ForeignKeyConstraint(
            ["agent_id"], ["agents.id"], name="fk_circle_members_agent_id_agents"
        ),
        sa.ForeignKeyConstraint(
            ["circle_id"], ["circles.id"], name="fk_circle_members_circle_id_circles"
        ),
        sa.PrimaryKeyConstraint("circle_id", "agent_id", name="pk_circle_members"),
    )
    op.create_index("ix_circle_members_agent_id", "circle_members", ["agent_id"], unique=False)
    op.create_table(
        "conversations",
        _id(),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("owner", sa.String(length=64), nullable=False),
        sa.Column("circle_id", sa.BigInteger(), nullable=True),
        sa.Column("topic", sa.Text(), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("final", sa.Boolean(), server_default="false", nullable=False),
        sa.Column("agent_ids", postgresql.ARRAY(sa.BigInteger()), nullable=False),
        sa.Column("turn_strategy", sa.String(length=32), nullable=False),
        sa.Column("facilitator_id", sa.BigInteger(), nullable=True),
        sa.Column("auto_run", sa.Boolean(), nullable=False),
        sa.Column("max_turns", sa.Integer(), nullable=False),
        sa.Column("turn_timeout", sa.Integer(), nullable=False),
        sa.Column("turn_count", sa.Integer(), server_default="0", nullable=False),
        sa.Column("last_seq", sa.Integer(), server_default="0", nullable=False),
        sa.Column("execution", sa.Integer(), server_default="1", nullable=False),
        sa.Column("started", sa.Boolean(), server_default="false", nullable=False),
        sa.Column("fence", sa.BigInteger(), nullable=True),
        sa.Column("speaking_agent_id", sa.BigInteger(), nullable=True),
        sa.Column(
            "cost_usd", sa.Numeric(precision=18, scale=9), server_default="0", nullable=False
        ),
        _instant("created_at"),
        _instant("updated_at"),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["circle_id"], ["circles.id"], name="fk_conversations_circle_id_circles"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_conversations"),
    )
    op.create_index(
        "ix_conversations_circle_id_status", "conversations", ["circle_id", "status"], unique=False
    )
    op.create_index(
        "ix_conversations_speaking",
        "conversations",
        ["speaking_agent_id"],
        unique=False,
        postgresql_where=sa.text("speaking_agent_id IS NOT NULL"),
    )
    op.create_index("ix_conversations_status", "conversations", ["status"], unique=False)
    op.create_table(
        "messages",
        _id(),
        sa.Column("conversation_id", sa.BigInteger(), nullable=False),
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.Column("role", sa.String(length=16), nullable=False),
        sa.Column("agent_id", sa.BigInteger(), nullable=True),
        sa.Column("agent_name", sa.String(length=255), nullable=True),
        sa.Column("content", sa.Text(), nullable=False),
        sa.Column(
            "mentions", postgresql.ARRAY(sa.BigInteger()), server_default="{}", nullable=False
        ),
        sa.Column("tool_calls", postgresql.JSONB(), nullable=True),
        sa.Column("execution", sa.Integer(), nullable=False),
        sa.Column("turn", sa.Integer(), nullable=False),
        sa.Column("step", sa.Integer(), nullable=False),
        sa.Column("inbox_id", sa.BigInteger(), nullable=True),
        sa.Column("model", sa.String(length=255), nullable=True),
        sa.Column("tokens_in", sa.Integer(), server_default="0", nullable=False),
        sa.Column("tokens_out", sa.Integer(), server_default="0", nullable=False),
        sa.Column(
            "cost_usd", sa.Numeric(precision=18, scale=9), server_default="0", nullable=False
        ),
        _instant("created_at"),
        sa.ForeignKeyConstraint(["agent_id"], ["agents.id"], name="fk_messages_agent_id_agents"),
        sa.ForeignKeyConstraint(
            ["conversation_id"],
            ["conversations.id"],
            name="fk_messages_conversation_id_conversations",
        ),
        sa.PrimaryKeyConstraint("id", name="pk_messages"),
        sa.UniqueConstraint("conversation_id", "seq", name="uq_messages_conversation_id_seq"),
    )
    op.create_index("ix_messages_agent_id", "messages", ["agent_id"], unique=False)
    op.create_index(
        "uq_messages_reply",
        "messages",
        ["conversation_id", "execution", "turn", "step"],
        unique=True,
        postgresql_where=sa.text("role = 'assistant'"),
    )
    op.create_table(
        "model_calls",
        _id(),
        sa.Column("conversation_id", sa.BigInteger(), nullable=False),
        sa.Column("execution", sa.Integer(), nullable=False),
        sa.Column("turn", sa.Integer(), nullable=False),
        sa.Column("step", sa.Integer(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("agent_id", sa.BigInteger(), nullable=False),
        sa.Column("provider", sa.String(length=64), nullable=False),
        sa.Column("model", sa.String(length=255), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("error_code", sa.String(length=64), nullable=True),
        sa.Column("reserved_usd", sa.Numeric(precision=18, scale=9), nullable=False),
        sa.Column(
            "cost_usd", sa.Numeric(precision=18, scale=9), server_default="0", nullable=False
        ),
        sa.Column("tokens_in", sa.Integer(), server_default="0", nullable=False),
        sa.Column("tokens_out", sa.Integer(), server_default="0", nullable=False),
        _instant("created_at"),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["conversation_id"],
            ["conversations.id"],
            name="fk_model_calls_conversation_id_conversations",
        ),
        sa.PrimaryKeyConstraint("id", name="pk_model_calls"),
    )
    op.create_index("ix_model_calls_agent_id", "model_calls", ["agent_id"], unique=False)
    op.create_index(
        "ix_model_calls_reserved",
        "model_calls",
        ["created_at"],
        unique=False,
        postgresql_where=sa.text("status = 'reserved'"),
    )
    op.create_index(
        "ix_model_calls_step",
        "model_calls",
        ["conversation_id", "execution", "turn", "step"],
        unique=False,
    )


def downgrade() -> None:
    op.drop_table("model_calls")
    op.drop_table("messages")
    op.drop_table("conversations")
    op.drop_table("circle_members")
    op.drop_table("streams")
    op.drop_table("settings")
    op.drop_table("providers")
    op.drop_table("outbox")
    op.drop_table("inbox")
    op.drop_table("events")
    op.drop_table("circles")
    op.drop_table("agents")
    op.execute("DROP EXTENSION IF EXISTS vector")
