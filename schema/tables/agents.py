"""Agents."""

from __future__ import annotations

from sqlalchemy import Index, String, text
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
    created_at: Mapped[CreatedAt]
    updated_at: Mapped[CreatedAt]
    deleted_at: Mapped[Instant | None]
