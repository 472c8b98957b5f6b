"""Agents."""

from __future__ import annotations

from decimal import Decimal

from pydantic import JsonValue
from sqlalchemy import BigInteger, Index, Integer, Numeric, SmallInteger, String, Text, text
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.orm import Mapped, mapped_column

from schema.tables.base import Base, CreatedAt, Document, Id, Instant


class AgentRow(Base):
    """`state` is what people set (active, offline); busy and idle are derived when read."""

    __tablename__ = "agents"
    __table_args__ = (
        Index("uq_agents_slug", "slug", unique=True, postgresql_where=text("deleted_at IS NULL")),
    )

    id: Mapped[Id]
    slug: Mapped[str] = mapped_column(String(63))
    name: Mapped[str] = mapped_column(String(255))
    role: Mapped[str | None] = mapped_column(String(100))
    provider: Mapped[str] = mapped_column(String(64))
    model: Mapped[str] = mapped_column(String(255))
    personality: Mapped[Document]
    background: Mapped[Document]
    config: Mapped[Document]
    state: Mapped[str] = mapped_column(String(32), server_default="active")
    told_status: Mapped[str] = mapped_column(String(32), server_default="idle")
    """What `agent.status` told last."""
    description: Mapped[str | None] = mapped_column(Text)
    system_prompt: Mapped[str | None] = mapped_column(Text)
    max_concurrent_tasks: Mapped[int] = mapped_column(Integer, server_default="3")
    worker_id: Mapped[int | None] = mapped_column(BigInteger)
    tags: Mapped[list[str]] = mapped_column(ARRAY(String(64)), server_default="{}")
    risk_rules: Mapped[Document] = mapped_column(server_default="{}")
    fallback_models: Mapped[list[dict[str, JsonValue]]] = mapped_column(JSONB, server_default="[]")
    """`{provider, model}`, asked in order while the agent's own model cannot answer."""
    daily_budget_usd: Mapped[Decimal] = mapped_column(Numeric(18, 9), server_default="0")
    max_tokens_per_task: Mapped[int] = mapped_column(Integer, server_default="0")
    memory_limit_mb: Mapped[int] = mapped_column(Integer, server_default="0")
    tasks_completed: Mapped[int] = mapped_column(Integer, server_default="0")
    tasks_failed: Mapped[int] = mapped_column(Integer, server_default="0")
    task_seconds: Mapped[Decimal] = mapped_column(Numeric(18, 3), server_default="0")
    """What its completed tasks took in all; both with its `AgentTallyRow`s."""
    failed_in_a_row: Mapped[int] = mapped_column(Integer, server_default="0")
    last_active_at: Mapped[Instant | None]
    created_at: Mapped[CreatedAt]
    updated_at: Mapped[CreatedAt]
    deleted_at: Mapped[Instant | None]


class AgentTallyRow(Base):
    """Tasks that agents completed by themselves.

    A database connection has a slot of its own, so that tasks of one agent that end at once do
    not wait for each other.
    """

    __tablename__ = "agent_tallies"

    agent_id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    slot: Mapped[int] = mapped_column(SmallInteger, primary_key=True)
    completed: Mapped[int] = mapped_column(Integer)
    seconds: Mapped[Decimal] = mapped_column(Numeric(18, 3))


class AgentCapabilityRow(Base):
    """What an agent is said to be able to do."""

    __tablename__ = "agent_capabilities"
    __table_args__ = (Index("uq_agent_capabilities", "agent_id", "capability", unique=True),)

    id: Mapped[Id]
    agent_id: Mapped[int] = mapped_column(BigInteger)
    capability: Mapped[str] = mapped_column(String(128))
    created_at: Mapped[CreatedAt]
