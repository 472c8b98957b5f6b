"""Projects."""

from __future__ import annotations

from sqlalchemy import Index, Integer, String, Text, text
from sqlalchemy.orm import Mapped, mapped_column

from schema.tables.base import Base, CreatedAt, Id, Instant


class ProjectRow(Base):
    """A deleted project frees its (source, source_project_id); its files go a moment later."""

    __tablename__ = "projects"
    __table_args__ = (
        Index(
            "uq_projects_source",
            "source",
            "source_project_id",
            unique=True,
            postgresql_where=text("deleted_at IS NULL"),
        ),
    )

    id: Mapped[Id]
    name: Mapped[str] = mapped_column(String(255))
    description: Mapped[str | None] = mapped_column(Text)
    source: Mapped[str | None] = mapped_column(String(16))
    source_project_id: Mapped[str | None] = mapped_column(String(255))
    repository_url: Mapped[str | None] = mapped_column(String(2048))
    default_branch: Mapped[str | None] = mapped_column(String(255))
    checkout_status: Mapped[str] = mapped_column(String(16), server_default="pending")
    checkout_reason: Mapped[str | None] = mapped_column(Text)
    checkout_run: Mapped[int] = mapped_column(Integer, server_default="1")
    created_at: Mapped[CreatedAt]
    updated_at: Mapped[CreatedAt]
    deleted_at: Mapped[Instant | None]
