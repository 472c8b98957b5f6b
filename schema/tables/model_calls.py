"""Model calls: the ledger of what was reserved, spent and may have been billed."""

from __future__ import annotations

from datetime import date
from decimal import Decimal

from sqlalchemy import Boolean, Date, ForeignKey, Index, Integer, Numeric, String, text
from sqlalchemy.orm import Mapped, mapped_column

from schema.tables.base import Base, CreatedAt, Id, Instant, Ref


class ModelCallRow(Base):
    """One row an attempt, committed before the call is sent.

    `status`: reserved → committed (settled at its cost), failed (refused by the provider:
    nothing billed), or unknown (cut after it was sent: settled at `reserved_usd`). `day` is the
    UTC day it was reserved on: what it costs belongs to that day and month.
    """

    __tablename__ = "model_calls"
    __table_args__ = (
        Index("ix_model_calls_step", "conversation_id", "execution", "turn", "step"),
        Index(
            "ix_model_calls_usage",
            "agent_id",
            "day",
            postgresql_include=["created_at", "tokens_in", "tokens_out", "cost_usd"],
        ),
        Index(
            "ix_model_calls_reserved", "created_at", postgresql_where=text("status = 'reserved'")
        ),
        # What costs are summed up from; a call enters it once, when it is settled.
        Index(
            "ix_model_calls_spent",
            "day",
            postgresql_include=[
                "agent_id", "provider", "model", "cost_usd", "tokens_in", "tokens_out",
            ],
            postgresql_where=text("status <> 'reserved'"),
        ),
    )  # fmt: skip

    id: Mapped[Id]
    conversation_id: Mapped[Ref] = mapped_column(ForeignKey("conversations.id"))
    execution: Mapped[int]
    turn: Mapped[int]
    step: Mapped[int]
    attempt: Mapped[int]
    agent_id: Mapped[Ref]
    provider: Mapped[str] = mapped_column(String(64))
    model: Mapped[str] = mapped_column(String(255))
    fallback_for: Mapped[str | None] = mapped_column(String(320))
    """`provider/model` that was wanted and could not answer; None where this is the one."""
    status: Mapped[str] = mapped_column(String(16))
    error_code: Mapped[str | None] = mapped_column(String(64))
    reserved_usd: Mapped[Decimal] = mapped_column(Numeric(18, 9))
    cost_usd: Mapped[Decimal] = mapped_column(Numeric(18, 9), server_default="0")
    tokens_in: Mapped[int] = mapped_column(Integer, server_default="0")
    tokens_out: Mapped[int] = mapped_column(Integer, server_default="0")
    day: Mapped[date] = mapped_column(
        Date, server_default=text("(clock_timestamp() AT TIME ZONE 'UTC')::date")
    )
    is_budgeted: Mapped[bool] = mapped_column(Boolean, server_default="false")
    """Counted in the budget counters there are of its periods."""
    is_unpriced: Mapped[bool] = mapped_column(Boolean, server_default="false")
    """Nobody knew a price: it counts as 0."""
    reserved_tokens: Mapped[int] = mapped_column(Integer, server_default="0")
    created_at: Mapped[CreatedAt]
    ended_at: Mapped[Instant | None]
