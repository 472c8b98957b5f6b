"""Tasks, their attempts, and the dead letters of those that failed for good."""

from __future__ import annotations

from decimal import Decimal

from pydantic import JsonValue
from sqlalchemy import (
    BigInteger,
    Boolean,
    ForeignKey,
    Index,
    Integer,
    Numeric,
    SmallInteger,
    String,
    Text,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.orm import Mapped, mapped_column

from schema.tables.base import Base, CreatedAt, Document, Id, Instant, Ref


class TaskRow(Base):
    """A task. `rank` is its priority as a number, 0 for critical.

    `is_started` says that a slot of its agent is held and its workflow was asked for;
    `workflow_run` counts those runs (`task-7`, `task-7-2`). What is locked: the conversation
    first, then the task.
    """

    __tablename__ = "tasks"
    __table_args__ = (
        Index("ix_tasks_living", "id", postgresql_where=text("deleted_at IS NULL")),
        Index("ix_tasks_counts", "status", "priority", postgresql_where=text("deleted_at IS NULL")),
        Index(
            "ix_tasks_agent",
            "agent_id",
            "status",
            "id",
            postgresql_where=text("deleted_at IS NULL"),
        ),
        Index(
            "ix_tasks_waiting",
            "agent_id",
            "rank",
            "deadline",
            "id",
            postgresql_where=text(
                "status IN ('pending', 'queued', 'assigned') AND NOT is_started"
                " AND deleted_at IS NULL"
            ),
        ),
        Index(
            "ix_tasks_deadline",
            "deadline",
            postgresql_where=text(
                "deadline IS NOT NULL AND NOT deadline_told"
                " AND status NOT IN ('completed', 'failed', 'cancelled')"
            ),
        ),
        Index(
            "ix_tasks_created_at",
            "created_at",
            "status",
            postgresql_where=text("deleted_at IS NULL"),
        ),
        Index("ix_tasks_run", "workflow_run_id"),
        Index("ix_tasks_definition", "definition_id", "id"),
    )

    id: Mapped[Id]
    title: Mapped[str] = mapped_column(String(500))
    description: Mapped[str | None] = mapped_column(Text)
    instructions: Mapped[str | None] = mapped_column(Text)
    status: Mapped[str] = mapped_column(String(16), server_default="pending")
    priority: Mapped[str] = mapped_column(String(16), server_default="medium")
    rank: Mapped[int] = mapped_column(SmallInteger, server_default="2")
    agent_id: Mapped[int | None] = mapped_column(BigInteger)
    assigned_by: Mapped[int | None] = mapped_column(BigInteger)
    origin_key: Mapped[str | None] = mapped_column(String(255), unique=True)
    workflow_id: Mapped[int | None] = mapped_column(BigInteger)
    workflow_run_id: Mapped[int | None] = mapped_column(BigInteger)
    waiter_kind: Mapped[str | None] = mapped_column(String(32))
    waiter_id: Mapped[int | None] = mapped_column(BigInteger)
    chain_depth: Mapped[int] = mapped_column(SmallInteger, server_default="0")
    parent_task_id: Mapped[int | None] = mapped_column(BigInteger)
    definition_id: Mapped[str | None] = mapped_column(String(128))
    project_id: Mapped[int | None] = mapped_column(BigInteger, index=True)
    conversation_id: Mapped[Ref] = mapped_column(ForeignKey("conversations.id"), unique=True)
    is_started: Mapped[bool] = mapped_column(Boolean, server_default="false")
    workflow_run: Mapped[int] = mapped_column(Integer, server_default="0")
    stop_runs: Mapped[list[int]] = mapped_column(ARRAY(Integer), server_default="{}")
    """Those that Temporal is still to be told to cancel."""
    result: Mapped[str | None] = mapped_column(Text)
    error: Mapped[str | None] = mapped_column(Text)
    error_type: Mapped[str | None] = mapped_column(String(64))
    pending_reason: Mapped[str | None] = mapped_column(Text)
    output_files: Mapped[list[int]] = mapped_column(ARRAY(BigInteger), server_default="{}")
    deadline: Mapped[Instant | None]
    deadline_told: Mapped[bool] = mapped_column(Boolean, server_default="false")
    started_at: Mapped[Instant | None]
    completed_at: Mapped[Instant | None]
    next_attempt_at: Mapped[Instant | None]
    retry_count: Mapped[int] = mapped_column(Integer, server_default="0")
    max_retries: Mapped[int] = mapped_column(Integer, server_default="3")
    required_tools: Mapped[list[str]] = mapped_column(ARRAY(String(128)), server_default="{}")
    required_capabilities: Mapped[list[str]] = mapped_column(
        ARRAY(String(128)), server_default="{}"
    )
    progress_percent: Mapped[int] = mapped_column(SmallInteger, server_default="0")
    budget_usd: Mapped[Decimal | None] = mapped_column(Numeric(18, 9))
    cost_tokens: Mapped[int] = mapped_column(BigInteger, server_default="0")
    cost_usd: Mapped[Decimal] = mapped_column(Numeric(18, 9), server_default="0")
    meta: Mapped[Document] = mapped_column("metadata", server_default="{}")
    created_at: Mapped[CreatedAt]
    updated_at: Mapped[CreatedAt]
    deleted_at: Mapped[Instant | None]


class TaskAttemptRow(Base):
    """One attempt at a task, from its start to its end."""

    __tablename__ = "task_attempts"

    task_id: Mapped[int] = mapped_column(ForeignKey("tasks.id"), primary_key=True)
    attempt: Mapped[int] = mapped_column(Integer, primary_key=True)
    agent_id: Mapped[int | None] = mapped_column(BigInteger)
    started_at: Mapped[CreatedAt]
    ended_at: Mapped[Instant | None]
    outcome: Mapped[str | None] = mapped_column(String(16))
    error: Mapped[str | None] = mapped_column(Text)
    error_type: Mapped[str | None] = mapped_column(String(64))


class DeadLetterRow(Base):
    """A task that failed for good. At most one of a task is open."""

    __tablename__ = "dead_letters"
    __table_args__ = (
        Index(
            "uq_dead_letters_open",
            "task_id",
            unique=True,
            postgresql_where=text("status IN ('pending_retry', 'permanently_failed')"),
        ),
        Index("ix_dead_letters_status_id", "status", "id"),
    )

    id: Mapped[Id]
    task_id: Mapped[Ref] = mapped_column(ForeignKey("tasks.id"))
    task_title: Mapped[str] = mapped_column(String(500))
    agent_id: Mapped[int | None] = mapped_column(BigInteger)
    agent_name: Mapped[str | None] = mapped_column(String(255))
    priority: Mapped[str] = mapped_column(String(16))
    error_type: Mapped[str] = mapped_column(String(64))
    error_message: Mapped[str] = mapped_column(Text)
    stack_trace: Mapped[str | None] = mapped_column(Text)
    status: Mapped[str] = mapped_column(String(24))
    source: Mapped[str] = mapped_column(String(8))
    retry_count: Mapped[int]
    max_retries: Mapped[int]
    meta: Mapped[Document] = mapped_column("metadata", server_default="{}")
    execution_history: Mapped[list[dict[str, JsonValue]]] = mapped_column(JSONB)
    failed_at: Mapped[CreatedAt]
    retried_at: Mapped[Instant | None]
    created_at: Mapped[CreatedAt]
    updated_at: Mapped[CreatedAt]
