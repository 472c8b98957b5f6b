"""Circles and their members."""

from __future__ import annotations

from sqlalchemy import ForeignKey, Index, String, Text, text
from sqlalchemy.orm import Mapped, mapped_column

from schema.tables.base import Base, CreatedAt, Document, Id, Instant, Ref


class CircleRow(Base):
    """Names are unique among the living: a deleted circle's name is free again."""

    __tablename__ = "circles"
    __table_args__ = (
        Index("uq_circles_name", "name", unique=True, postgresql_where=text("deleted_at IS NULL")),
    )

    id: Mapped[Id]
    name: Mapped[str] = mapped_column(String(50))
    display_name: Mapped[str] = mapped_column(String(200))
    description: Mapped[str | None] = mapped_column(Text)
    status: Mapped[str] = mapped_column(String(16), server_default="created")
    config: Mapped[Document]
    created_at: Mapped[CreatedAt]
    updated_at: Mapped[CreatedAt]
    deleted_at: Mapped[Instant | None]


class CircleMemberRow(Base):
    """A membership; turns go round in the order of `joined_at`."""

    __tablename__ = "circle_members"

    circle_id: Mapped[Ref] = mapped_column(ForeignKey("circles.id"), primary_key=True)
    agent_id: Mapped[Ref] = mapped_column(ForeignKey("agents.id"), primary_key=True, index=True)
    role: Mapped[str] = mapped_column(String(16))
    joined_at: Mapped[CreatedAt]
