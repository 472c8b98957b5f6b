"""Tasks, their attempts and dead letters, and what agents need to be given work."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def _agent_columns():
    return [
        sa.Column("description", sa.Text(), nullable=True),
        sa.Column("system_prompt", sa.Text(), nullable=True),
        sa.Column("max_concurrent_tasks", sa.Integer(), server_default="3", nullable=False),
        sa.Column("worker_id", sa.BigInteger(), nullable=True),
        sa.Column("tags", ARRAY(sa.String(64)), server_default="{}", nullable=False),
        sa.Column("risk_rules", JSONB, server_default="{}", nullable=False),
        sa.Column("fallback_models", JSONB, server_default="[]", nullable=False),
        sa.Column("daily_budget_usd", sa.Numeric(18, 9), server_default="0", nullable=False),
        sa.Column("max_tokens_per_task", sa.Integer(), server_default="0", nullable=False),
        sa.Column("memory_limit_mb", sa.Integer(), server_default="0", nullable=False),
        sa.Column("tasks_completed", sa.Integer(), server_default="0", nullable=False),
        sa.Column("tasks_failed", sa.Integer(), server_default="0", nullable=False),
        sa.Column("task_seconds", sa.Numeric(18, 3), server_default="0", nullable=False),
        sa.Column("failed_in_a_row", sa.Integer(), server_default="0", nullable=False),
        sa.Column("last_active_at", sa.DateTime(timezone=True), nullable=True),
    ]


def upgrade() -> None:
    for column in _agent_columns():
        op.add_column("agents", column)
    op.create_table(
        "tasks",
        sa.Column("id", sa.BigInteger(), sa.Identity(), nullable=False),
        sa.Column("title", sa.String(500), nullable=False),
        sa.Column("description", sa.Text(), nullable=True),
        sa.Column("instructions", sa.Text(), nullable=True),
        sa.Column("status", sa.String(16), server_default="pending", nullable=False),
        sa.Column("priority", sa.String(16), server_default="medium", nullable=False),
        sa.Column("rank", sa.SmallInteger(), server_default="2", nullable=False),
        sa.Column("agent_id", sa.BigInteger(), nullable=True),
        sa.Column("assigned_by", sa.BigInteger(), nullable=True),
        sa.Column("origin_key", sa.String(255), nullable=True),
        sa.Column("workflow_id", sa.BigInteger(), nullable=True),
        sa.Column("workflow_run_id", sa.BigInteger(), nullable=True),
        sa.Column("waiter_kind", sa.String(32), nullable=True),
        sa.Column("waiter_id", sa.BigInteger(), nullable=True),
        sa.Column("chain_depth", sa.SmallInteger(), server_default="0", nullable=False),
        sa.Column("parent_task_id", sa.BigInteger(), nullable=True),
        sa.Column("definition_id", sa.String(128), nullable=True),
        sa.Column("project_id", sa.BigInteger(), nullable=True),
        sa.Column("conversation_id", sa.BigInteger(), nullable=False),
        sa.Column("is_started", sa.Boolean(), server_default="false", nullable=False),
        sa.Column("workflow_run", sa.Integer(), server_default="0", nullable=False),
        sa.Column("stop_run", sa.Integer(), nullable=True),
        sa.Column("result", sa.Text(), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("error_type", sa.String(64), nullable=True),
        sa.Column("pending_reason", sa.Text(), nullable=True),
        sa.Column("output_files", ARRAY(sa.BigInteger()), server_default="{}", nullable=False),
        sa.Column("deadline", sa.DateTime(timezone=True), nullable=True),
        sa.Column("deadline_told", sa.Boolean(), server_default="false", nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("completed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("next_attempt_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("retry_count", sa.Integer(), server_default="0", nullable=False),
        sa.Column("max_retries", sa.Integer(), server_default="3", nullable=False),
        sa.Column("required_tools", ARRAY(sa.String(128)), server_default="{}", nullable=False),
        sa.Column("progress_percent", sa.SmallInteger(), server_default="0", nullable=False),
        sa.Column("budget_usd", sa.Numeric(18, 9), nullable=True),
        sa.Column("cost_tokens", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("cost_usd", sa.Numeric(18, 9), server_default="0", nullable=False),
        sa.Column("metadata", JSONB, server_default="{}", nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False),
        sa.Column("deleted_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["conversation_id"], ["conversations.id"], name="fk_tasks_conversation_id_conversations"),
        sa.PrimaryKeyConstraint("id", name="pk_tasks"),
        sa.UniqueConstraint("origin_key", name="uq_tasks_origin_key"),
        sa.UniqueConstraint("conversation_id", name="uq_tasks_conversation_id"),
    )
    op.create_index("ix_tasks_agent", "tasks", ["agent_id", "status", "id"], postgresql_where=sa.text("deleted_at IS NULL"))
    op.create_index("ix_tasks_counts", "tasks", ["status", "priority"], postgresql_where=sa.text("deleted_at IS NULL"))
    op.create_index("ix_tasks_deadline", "tasks", ['deadline'], postgresql_where=sa.text("deadline IS NOT NULL AND NOT deadline_told AND status NOT IN ('completed', 'failed', 'cancelled')"))
    op.create_index("ix_tasks_definition", "tasks", ["definition_id", "id"])
    op.create_index("ix_tasks_living", "tasks", ["id"], postgresql_where=sa.text("deleted_at IS NULL"))
    op.create_index("ix_tasks_project_id", "tasks", ["project_id"])
    op.create_index("ix_tasks_run", "tasks", ["workflow_run_id"])
    op.create_index("ix_tasks_waiting", "tasks", ['agent_id', 'rank', 'deadline', 'id'], postgresql_where=sa.text("status IN ('pending', 'queued', 'assigned') AND NOT is_started AND deleted_at IS NULL"))
    op.create_table(
        "task_attempts",
        sa.Column("task_id", sa.BigInteger(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("agent_id", sa.BigInteger(), nullable=True),
        sa.Column("started_at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("outcome", sa.String(16), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("error_type", sa.String(64), nullable=True),
        sa.ForeignKeyConstraint(["task_id"], ["tasks.id"], name="fk_task_attempts_task_id_tasks"),
        sa.PrimaryKeyConstraint("task_id", "attempt", name="pk_task_attempts"),
    )
    op.create_table(
        "dead_letters",
        sa.Column("id", sa.BigInteger(), sa.Identity(), nullable=False),
        sa.Column("task_id", sa.BigInteger(), nullable=False),
        sa.Column("task_title", sa.String(500), nullable=False),
        sa.Column("agent_id", sa.BigInteger(), nullable=True),
        sa.Column("agent_name", sa.String(255), nullable=True),
        sa.Column("priority", sa.String(16), nullable=False),
        sa.Column("error_type", sa.String(64), nullable=False),
        sa.Column("error_message", sa.Text(), nullable=False),
        sa.Column("stack_trace", sa.Text(), nullable=True),
        sa.Column("status", sa.String(24), nullable=False),
        sa.Column("source", sa.String(8), nullable=False),
        sa.Column("retry_count", sa.Integer(), nullable=False),
        sa.Column("max_retries", sa.Integer(), nullable=False),
        sa.Column("metadata", JSONB, server_default="{}", nullable=False),
        sa.Column("execution_history", JSONB, nullable=False),
        sa.Column("failed_at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False),
        sa.Column("retried_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False),
        sa.ForeignKeyConstraint(["task_id"], ["tasks.id"], name="fk_dead_letters_task_id_tasks"),
        sa.PrimaryKeyConstraint("id", name="pk_dead_letters"),
    )
    op.create_index("ix_dead_letters_status_id", "dead_letters", ["status", "id"])
    op.create_index("uq_dead_letters_open", "dead_letters", ['task_id'], unique=True, postgresql_where=sa.text("status IN ('pending_retry', 'permanently_failed')"))


def downgrade() -> None:
    op.drop_table("dead_letters")
    op.drop_table("task_attempts")
    op.drop_table("tasks")
    for column in reversed(_agent_columns()):
        op.drop_column("agents", column.name)
