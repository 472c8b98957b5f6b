"""The vault: each secret has a data key of its own, wrapped by the key of ENCRYPTION_KEY."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    String,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column

from schema.tables.base import Base, CreatedAt, Id, Instant


class SecretRow(Base):
    """What is known of a secret in the clear, and its wrapped data key."""

    __tablename__ = "secrets"
    __table_args__ = (
        Index("uq_secrets_name", "name", unique=True, postgresql_where=text("deleted_at IS NULL")),
    )

    id: Mapped[Id]
    name: Mapped[str] = mapped_column(String(255))
    category: Mapped[str] = mapped_column(String(100))
    description: Mapped[str | None] = mapped_column(Text)
    data_key: Mapped[bytes | None] = mapped_column(LargeBinary)
    """Wrapped; None once deleted, which makes every version unreadable."""
    version: Mapped[int] = mapped_column(Integer)
    expires_at: Mapped[Instant | None] = mapped_column(index=True)
    notified_days: Mapped[int | None] = mapped_column(Integer)
    """The last notice of expiry that was raised: 7 or 1 days."""
    rotated_at: Mapped[Instant | None]
    rotated_by: Mapped[int | None] = mapped_column(BigInteger)
    accessed_count: Mapped[int] = mapped_column(Integer, server_default="0")
    last_accessed_at: Mapped[Instant | None]
    created_by: Mapped[int | None] = mapped_column(BigInteger)
    created_at: Mapped[CreatedAt]
    updated_at: Mapped[CreatedAt]
    deleted_at: Mapped[Instant | None]


class SecretVersionRow(Base):
    """One value, encrypted under its secret's data key."""

    __tablename__ = "secret_versions"
    __table_args__ = (UniqueConstraint("secret_id", "version"),)

    id: Mapped[Id]
    secret_id: Mapped[int] = mapped_column(ForeignKey("secrets.id"))
    version: Mapped[int] = mapped_column(Integer)
    ciphertext: Mapped[bytes] = mapped_column(LargeBinary)
    created_by: Mapped[int | None] = mapped_column(BigInteger)
    created_at: Mapped[CreatedAt]
