"""Files that were uploaded or handed in. Their bytes are in the object store, by their sha256."""

from __future__ import annotations

from sqlalchemy import BigInteger, Index, String
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column

from schema.tables.base import Base, CreatedAt, Document, Id


class FileRow(Base):
    """A file. Rows that have the same content share its bytes, which go with the last of them."""

    __tablename__ = "files"
    __table_args__ = (
        Index("uq_files_publication", "conversation_id", "publication", unique=True),
        Index("ix_files_task", "task_id", "id"),
    )

    id: Mapped[Id]
    filename: Mapped[str] = mapped_column(String(255))
    content_type: Mapped[str] = mapped_column(String(255))
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    sha256: Mapped[str] = mapped_column(String(64), index=True)
    task_id: Mapped[int | None] = mapped_column(BigInteger)
    conversation_id: Mapped[int | None] = mapped_column(BigInteger)
    publication: Mapped[str | None] = mapped_column(String(64))
    owner: Mapped[str | None] = mapped_column(String(64))
    tags: Mapped[list[str]] = mapped_column(ARRAY(String(128)), server_default="{}")
    meta: Mapped[Document] = mapped_column("metadata", server_default="{}")
    uploaded_by_user_id: Mapped[int | None] = mapped_column(BigInteger)
    uploaded_by_agent_id: Mapped[int | None] = mapped_column(BigInteger)
    created_at: Mapped[CreatedAt] = mapped_column(index=True)
