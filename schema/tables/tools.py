"""The tool ledger: every call a model asked for, before and after it ran."""

from __future__ import annotations

from pydantic import JsonValue
from sqlalchemy import (
    BigInteger,
    Boolean,
    ForeignKey,
    Index,
    Integer,
    SmallInteger,
    String,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from schema.tables.base import Base, CreatedAt, Document, Id, Instant, Ref


class ToolExecutionRow(Base):
    """One call, stored with the reply that asks for it.

    `attempt` fences: an activity's attempt that is not the last one commits nothing.
    """

    __tablename__ = "tool_executions"
    __table_args__ = (
        UniqueConstraint("conversation_id", "execution", "turn", "step", "position"),
        Index("ix_tool_executions_agent_id_id", "agent_id", "id"),
        Index(
            "ix_tool_executions_open",
            "conversation_id",
            postgresql_where=text("status IN ('waiting', 'ready', 'running')"),
        ),
    )

    id: Mapped[Id]
    conversation_id: Mapped[Ref] = mapped_column(ForeignKey("conversations.id"))
    execution: Mapped[int]
    turn: Mapped[int]
    step: Mapped[int]
    position: Mapped[int]
    tool_use_id: Mapped[str] = mapped_column(String(255))
    tool_name: Mapped[str] = mapped_column(String(128))
    arguments: Mapped[Document]
    effect: Mapped[str] = mapped_column(String(16))
    verdict: Mapped[str] = mapped_column(String(8))
    rule: Mapped[str] = mapped_column(String(255))
    binding: Mapped[str] = mapped_column(String(64))
    status: Mapped[str] = mapped_column(String(16))
    approval_id: Mapped[int | None] = mapped_column(BigInteger, index=True)
    agent_id: Mapped[int | None] = mapped_column(BigInteger)
    task_id: Mapped[int | None] = mapped_column(BigInteger)
    attempt: Mapped[int] = mapped_column(Integer, server_default="0")
    result: Mapped[str | None] = mapped_column(Text)
    is_error: Mapped[bool] = mapped_column(Boolean, server_default="false")
    created_at: Mapped[CreatedAt]
    started_at: Mapped[Instant | None]
    ended_at: Mapped[Instant | None]


class ToolGrantRow(Base):
    """A tool a person allowed for the rest of a chat."""

    __tablename__ = "tool_grants"

    conversation_id: Mapped[int] = mapped_column(ForeignKey("conversations.id"), primary_key=True)
    tool_name: Mapped[str] = mapped_column(String(128), primary_key=True)
    granted_by: Mapped[str] = mapped_column(String(64))
    created_at: Mapped[CreatedAt]


class ApprovalRow(Base):
    """What waits for a yes or no; decided by one atomic step."""

    __tablename__ = "approvals"
    __table_args__ = (Index("ix_approvals_status_id", "status", "id"),)

    id: Mapped[Id]
    type: Mapped[str] = mapped_column(String(64))
    action: Mapped[str] = mapped_column(String(500))
    description: Mapped[str | None] = mapped_column(Text)
    risk_level: Mapped[str] = mapped_column(String(16))
    status: Mapped[str] = mapped_column(String(16), server_default="pending")
    task_id: Mapped[int | None] = mapped_column(BigInteger, index=True)
    agent_id: Mapped[int | None] = mapped_column(BigInteger, index=True)
    conversation_id: Mapped[int | None] = mapped_column(BigInteger, index=True)
    tool_execution_id: Mapped[int | None] = mapped_column(BigInteger, unique=True)
    owner: Mapped[str | None] = mapped_column(String(64))
    details: Mapped[Document]
    requested_by: Mapped[int | None] = mapped_column(BigInteger)
    requested_by_type: Mapped[str] = mapped_column(String(16))
    requested_at: Mapped[CreatedAt]
    expires_at: Mapped[Instant]
    decided_by: Mapped[int | None] = mapped_column(BigInteger)
    decided_by_key: Mapped[str | None] = mapped_column(String(64))
    decided_at: Mapped[Instant | None]
    decision_note: Mapped[str | None] = mapped_column(Text)
    rejection_reason: Mapped[str | None] = mapped_column(Text)
    arguments: Mapped[dict[str, JsonValue] | None] = mapped_column(JSONB(none_as_null=True))
    approvers: Mapped[JsonValue] = mapped_column(
        JSONB, server_default=text("'\"operators\"'"), nullable=False
    )
    required_approvals: Mapped[int] = mapped_column(SmallInteger, server_default="1")
    approvals_count: Mapped[int] = mapped_column(SmallInteger, server_default="0")
    four_eyes: Mapped[bool] = mapped_column(Boolean, server_default="false")
    escalate_to: Mapped[JsonValue | None] = mapped_column(JSONB(none_as_null=True))
    escalates_at: Mapped[Instant | None]
    escalated_at: Mapped[Instant | None]
    created_at: Mapped[CreatedAt]
    updated_at: Mapped[CreatedAt]


class ApprovalVoteRow(Base):
    """What one person said about an approval. An edit removes the votes before it."""

    __tablename__ = "approval_votes"
    __table_args__ = (UniqueConstraint("approval_id", "user_id"),)

    id: Mapped[Id]
    approval_id: Mapped[Ref] = mapped_column(ForeignKey("approvals.id"))
    user_id: Mapped[int] = mapped_column(BigInteger)
    approve: Mapped[bool]
    note: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[CreatedAt]
