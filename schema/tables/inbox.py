"""The inbox and the outbox: what was asked, and what the workflow engine must still be told."""

from __future__ import annotations

from pydantic import JsonValue
from sqlalchemy import (
    BigInteger,
    Index,
    Integer,
    String,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.orm import Mapped, mapped_column

from schema.tables.base import Base, CreatedAt, Id, Instant, Ref


class InboxRow(Base):
    """A request of a principal to a target (`conversation-42`), with its stored answer.

    `idempotency_key` is the client's, or one made for the request: the same one twice is the
    same row.
    """

    __tablename__ = "inbox"
    __table_args__ = (
        UniqueConstraint("principal", "target", "idempotency_key"),
        Index(
            "ix_inbox_waiting",
            "target",
            "id",
            postgresql_where=text("status IN ('pending', 'claimed')"),
        ),
    )

    id: Mapped[Id]
    target: Mapped[str] = mapped_column(String(64))
    principal: Mapped[str] = mapped_column(String(64))
    idempotency_key: Mapped[str] = mapped_column(String(255))
    request_hash: Mapped[str] = mapped_column(String(64))
    kind: Mapped[str] = mapped_column(String(16), server_default="turn")
    prompt: Mapped[str | None] = mapped_column(Text)
    agent_id: Mapped[int | None] = mapped_column(BigInteger)
    mentions: Mapped[list[int]] = mapped_column(ARRAY(BigInteger), server_default="{}")
    status: Mapped[str] = mapped_column(String(16), server_default="pending")
    turn: Mapped[int | None]
    answer: Mapped[dict[str, JsonValue] | None] = mapped_column(JSONB)
    created_at: Mapped[CreatedAt]
    done_at: Mapped[Instant | None]


class OutboxRow(Base):
    """A start or a wake-up owed to the workflow engine; deleted once it is delivered."""

    __tablename__ = "outbox"

    id: Mapped[Id]
    target_kind: Mapped[str] = mapped_column(String(32))
    target_id: Mapped[Ref]
    inbox_id: Mapped[int | None] = mapped_column(BigInteger, index=True)
    attempts: Mapped[int] = mapped_column(Integer, server_default="0")
    due_at: Mapped[CreatedAt] = mapped_column(index=True)
    created_at: Mapped[CreatedAt]
