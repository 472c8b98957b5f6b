"""Compactions: the summaries that stand in for the beginning of a conversation."""

from __future__ import annotations

from sqlalchemy import Boolean, ForeignKey, String, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from schema.tables.base import Base, CreatedAt, Id, Ref


class CompactionRow(Base):
    """One summary. It covers the transcript up to `through_seq`, earlier summaries included.

    The transcript itself stays. A long beginning is summarised in several rounds, a row each:
    the last one is `finished`, and its figures are those of all of them.
    """

    __tablename__ = "compactions"
    __table_args__ = (UniqueConstraint("conversation_id", "through_seq"),)

    id: Mapped[Id]
    conversation_id: Mapped[Ref] = mapped_column(ForeignKey("conversations.id"))
    through_seq: Mapped[int]
    summary: Mapped[str] = mapped_column(Text)
    tokens_before: Mapped[int]
    tokens_after: Mapped[int]
    turns_removed: Mapped[int]
    finished: Mapped[bool] = mapped_column(Boolean)
    model: Mapped[str] = mapped_column(String(255))
    call_id: Mapped[Ref]
    """The model call that wrote it."""
    created_at: Mapped[CreatedAt]
