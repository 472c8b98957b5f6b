"""Chats, the tool ledger and approvals."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def _instant(name):
    return sa.Column(
        name, sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False
    )


def _id():
    return sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False)


def upgrade() -> None:
    op.add_column("conversations", sa.Column("cancel_turn", sa.Integer(), nullable=True))
    op.add_column("conversations", sa.Column("chat_id", sa.Uuid(), nullable=True))
    op.add_column("conversations", sa.Column("profile", sa.String(length=64), nullable=True))
    op.add_column("conversations", sa.Column("project_id", sa.BigInteger(), nullable=True))
    op.add_column("conversations", sa.Column("permissions", postgresql.JSONB(), nullable=True))
    op.create_unique_constraint("uq_conversations_chat_id", "conversations", ["chat_id"])
    op.create_index("ix_conversations_project_id", "conversations", ["project_id"], unique=False)
    op.create_table(
        "tool_executions",
        _id(),
        sa.Column("conversation_id", sa.BigInteger(), nullable=False),
        sa.Column("execution", sa.Integer(), nullable=False),
        sa.Column("turn", sa.Integer(), nullable=False),
        sa.Column("step", sa.Integer(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("tool_use_id", sa.String(length=255), nullable=False),
        sa.Column("tool_name", sa.String(length=128), nullable=False),
        sa.Column("arguments", postgresql.JSONB(), nullable=False),
        sa.Column("effect", sa.String(length=16), nullable=False),
        sa.Column("verdict", sa.String(length=8), nullable=False),
        sa.Column("rule", sa.String(length=255), nullable=False),
        sa.Column("binding", sa.String(length=64), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("approval_id", sa.BigInteger(), nullable=True),
        sa.Column("agent_id", sa.BigInteger(), nullable=True),
        sa.Column("task_id", sa.BigInteger(), nullable=True),
        sa.Column("attempt", sa.Integer(), server_default="0", nullable=False),
        sa.Column("result", sa.Text(), nullable=True),
        sa.Column("is_error", sa.Boolean(), server_default="false", nullable=False),
        _instant("created_at"),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["conversation_id"],
            ["conversations.id"],
            name="fk_tool_executions_conversation_id_conversations",
        ),
        sa.PrimaryKeyConstraint("id", name="pk_tool_executions"),
        sa.UniqueConstraint(
            "conversation_id",
            "execution",
            "turn",
            "step",
            "position",
            name="uq_tool_executions_conversation_id_execution_turn_step_position",
        ),
    )
    op.create_index("ix_tool_executions_agent_id_id", "tool_executions", ["agent_id", "id"])
    op.create_index("ix_tool_executions_approval_id", "tool_executions", ["approval_id"])
    op.create_index(
        "ix_tool_executions_open",
        "tool_executions",
        ["conversation_id"],
        postgresql_where=sa.text("status IN ('waiting', 'ready', 'running')"),
    )
    op.create_table(
        "tool_grants",
        sa.Column("conversation_id", sa.BigInteger(), nullable=False),
        sa.Column("tool_name", sa.String(length=128), nullable=False),
        sa.Column("granted_by", sa.String(length=64), nullable=False),
        _instant("created_at"),
        sa.ForeignKeyConstraint(
            ["conversation_id"],
            ["conversations.id"],
            name="fk_tool_grants_conversation_id_conversations",
        ),
        sa.PrimaryKeyConstraint("conversation_id", "tool_name", name="pk_tool_grants"),
    )
    op.create_table(
        "approvals",
        _id(),
        sa.Column("type", sa.String(length=64), nullable=False),
        sa.Column("action", sa.String(length=500), nullable=False),
        sa.Column("description", sa.Text(), nullable=True),
        sa.Column("risk_level", sa.String(length=16), nullable=False),
        sa.Column("status", sa.String(length=16), server_default="pending", nullable=False),
        sa.Column("task_id", sa.BigInteger(), nullable=True),
        sa.Column("agent_id", sa.BigInteger(), nullable=True),
        sa.Column("conversation_id", sa.BigInteger(), nullable=True),
        sa.Column("tool_execution_id", sa.BigInteger(), nullable=True),
        sa.Column("owner", sa.String(length=64), nullable=True),
        sa.Column("details", postgresql.JSONB(), nullable=False),
        sa.Column("requested_by", sa.BigInteger(), nullable=True),
        sa.Column("requested_by_type", sa.String(length=16), nullable=False),
        _instant("requested_at"),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("decided_by", sa.BigInteger(), nullable=True),
        sa.Column("decided_by_key", sa.String(length=64), nullable=True),
        sa.Column("decided_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("decision_note", sa.Text(), nullable=True),
        sa.Column("rejection_reason", sa.Text(), nullable=True),
        sa.Column("arguments", postgresql.JSONB(), nullable=True),
        _instant("created_at"),
        _instant("updated_at"),
        sa.PrimaryKeyConstraint("id", name="pk_approvals"),
        sa.UniqueConstraint("tool_execution_id", name="uq_approvals_tool_execution_id"),
    )
    for column in ("agent_id", "conversation_id", "task_id"):
        op.create_index(f"ix_approvals_{column}", "approvals", [column])
    op.create_index("ix_approvals_status_id", "approvals", ["status", "id"])


def downgrade() -> None:
    op.drop_table("approvals")
    op.drop_table("tool_grants")
    op.drop_table("tool_executions")
    op.drop_index("ix_conversations_project_id", "conversations")
    op.drop_constraint("uq_conversations_chat_id", "conversations")
    for column in ("permissions", "project_id", "profile", "chat_id", "cancel_turn"):
        op.drop_column("conversations", column)
