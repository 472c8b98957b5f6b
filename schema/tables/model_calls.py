"""Model calls: the ledger of what was reserved, spent and may have been billed."""

from __future__ import annotations

from decimal import Decimal

from sqlalchemy import ForeignKey, Index, Integer, Numeric, String, text
from sqlalchemy.orm import Mapped, mapped_column

from schema.tables.base import Base, CreatedAt, Id, Instant, Ref


class ModelCallRow(Base):
    """One row an attempt, committed before the call is sent.

    `status`: reserved → committed (settled at its cost), failed (refused by the provider:
    nothing billed), or unknown (cut after it was sent: settled at `reserved_usd`).
    """

    __tablename__ = "model_calls"
    __table_args__ = (
        Index("ix_model_calls_step", "conversation_id", "execution", "turn", "step"),
        Index(
            "ix_model_calls_usage",
            "agent_id",
            postgresql_include=["created_at", "tokens_in", "tokens_out", "cost_usd"],
        ),
        Index(
            "ix_model_calls_reserved", "created_at", postgresql_where=text("status = 'reserved'")
        ),
    )

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
    created_at: Mapped[CreatedAt]
    ended_at: Mapped[Instant | None]
