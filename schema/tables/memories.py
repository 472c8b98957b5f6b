"""Memories."""

from __future__ import annotations

from sqlalchemy import BigInteger, Float, ForeignKey, Index, String, Text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column

from schema.tables.base import Base, CreatedAt, Id


class MemoryRow(Base):
    """`scope_id` points to another table for each scope, so that no foreign key can hold it.

    A deleted memory is gone: what somebody wants forgotten is not kept.
    """

    __tablename__ = "memories"
    __table_args__ = (Index("ix_memories_agent_id_id", "agent_id", "id"),)

    id: Mapped[Id]
    agent_id: Mapped[int | None] = mapped_column(ForeignKey("agents.id"))
    scope: Mapped[str] = mapped_column(String(16))
    scope_id: Mapped[int | None] = mapped_column(BigInteger)
    key: Mapped[str] = mapped_column(String(200))
    content: Mapped[str] = mapped_column(Text)
    memory_type: Mapped[str] = mapped_column(String(16))
    tags: Mapped[list[str]] = mapped_column(ARRAY(Text))
    importance: Mapped[float] = mapped_column(Float(53))
    created_at: Mapped[CreatedAt]
