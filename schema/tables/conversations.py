"""Conversations, who takes part, and their messages."""

from __future__ import annotations

import uuid
from decimal import Decimal

from pydantic import JsonValue
from sqlalchemy import (
    BigInteger,
    Boolean,
    ForeignKey,
    Index,
    Integer,
    Numeric,
    String,
    Text,
    UniqueConstraint,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.orm import Mapped, mapped_column

from schema.tables.base import Base, CreatedAt, Id, Instant, Ref


class ConversationRow(Base):
    """One row a conversation; it is locked for every change, which puts them in one order.

    `fence` is the model call that may commit: a later attempt takes it, and an attempt that
    comes late finds it gone. `speaking_agent_id` is set while a turn runs.
    """

    __tablename__ = "conversations"
    __table_args__ = (
        Index("ix_conversations_circle_id_status", "circle_id", "status"),
        Index(
            "ix_conversations_speaking",
            "speaking_agent_id",
            postgresql_where=text("speaking_agent_id IS NOT NULL"),
        ),
        Index(
            "ix_conversations_chats",
            "owner",
            "updated_at",
            postgresql_where=text("kind = 'chat' AND deleted_at IS NULL"),
        ),
        Index(
            "ix_conversations_profile",
            "profile",
            postgresql_where=text("profile IS NOT NULL"),
        ),
    )

    id: Mapped[Id]
    kind: Mapped[str] = mapped_column(String(16))
    owner: Mapped[str] = mapped_column(String(64))
    circle_id: Mapped[int | None] = mapped_column(ForeignKey("circles.id"))
    topic: Mapped[str] = mapped_column(Text)
    status: Mapped[str] = mapped_column(String(16), index=True)
    reason: Mapped[str | None] = mapped_column(Text)
    final: Mapped[bool] = mapped_column(Boolean, server_default="false")
    agent_ids: Mapped[list[int]] = mapped_column(ARRAY(BigInteger))
    turn_strategy: Mapped[str] = mapped_column(String(32))
    facilitator_id: Mapped[int | None] = mapped_column(BigInteger)
    auto_run: Mapped[bool]
    max_turns: Mapped[int]
    turn_timeout: Mapped[int]
    turn_count: Mapped[int] = mapped_column(Integer, server_default="0")
    last_seq: Mapped[int] = mapped_column(Integer, server_default="0")
    execution: Mapped[int] = mapped_column(Integer, server_default="1")
    started: Mapped[bool] = mapped_column(Boolean, server_default="false")
    fence: Mapped[int | None] = mapped_column(BigInteger)
    speaking_agent_id: Mapped[int | None] = mapped_column(BigInteger)
    cancel_turn: Mapped[int | None] = mapped_column(Integer)
    """The number of the turn that is to stop."""
    chat_id: Mapped[uuid.UUID | None] = mapped_column(Uuid, unique=True)
    profile: Mapped[str | None] = mapped_column(String(64))
    project_id: Mapped[int | None] = mapped_column(BigInteger, index=True)
    permissions: Mapped[dict[str, JsonValue] | None] = mapped_column(JSONB(none_as_null=True))
    """What a chat tightens of the rules for tools."""
    compacted_seq: Mapped[int] = mapped_column(Integer, server_default="0")
    """The transcript up to here is summarised (`schema.tables.compactions`)."""
    context_tokens: Mapped[int | None] = mapped_column(Integer)
    """Of the last prompt sent, or of what a compaction left; with the model it was counted for."""
    context_window: Mapped[int | None] = mapped_column(Integer)
    context_model: Mapped[str | None] = mapped_column(String(255))
    cost_usd: Mapped[Decimal] = mapped_column(Numeric(18, 9), server_default="0")
    created_at: Mapped[CreatedAt]
    updated_at: Mapped[CreatedAt]
    ended_at: Mapped[Instant | None]
    deleted_at: Mapped[Instant | None]
    """Of chats alone: the row stays, nobody is told of it any more."""


class MessageRow(Base):
    """A transcript. A reply is unique per (conversation, execution, turn, step)."""

    __tablename__ = "messages"
    __table_args__ = (
        UniqueConstraint("conversation_id", "seq"),
        Index(
            "uq_messages_reply",
            "conversation_id",
            "execution",
            "turn",
            "step",
            unique=True,
            postgresql_where=text("role = 'assistant'"),
        ),
    )

    id: Mapped[Id]
    conversation_id: Mapped[Ref] = mapped_column(ForeignKey("conversations.id"))
    seq: Mapped[int]
    role: Mapped[str] = mapped_column(String(16))
    agent_id: Mapped[int | None] = mapped_column(ForeignKey("agents.id"), index=True)
    agent_name: Mapped[str | None] = mapped_column(String(255))
    content: Mapped[str] = mapped_column(Text)
    mentions: Mapped[list[int]] = mapped_column(ARRAY(BigInteger), server_default="{}")
    tool_calls: Mapped[list[dict[str, JsonValue]] | None] = mapped_column(JSONB)
    execution: Mapped[int]
    turn: Mapped[int]
    step: Mapped[int]
    inbox_id: Mapped[int | None] = mapped_column(BigInteger)
    model: Mapped[str | None] = mapped_column(String(255))
    tokens_in: Mapped[int] = mapped_column(Integer, server_default="0")
    tokens_out: Mapped[int] = mapped_column(Integer, server_default="0")
    cost_usd: Mapped[Decimal] = mapped_column(Numeric(18, 9), server_default="0")
    created_at: Mapped[CreatedAt]
