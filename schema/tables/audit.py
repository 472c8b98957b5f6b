"""The audit log: entries that are only ever added, and the chain of seals over them."""

from __future__ import annotations

from pydantic import JsonValue
from sqlalchemy import BigInteger, Index, Integer, String, Text
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.orm import Mapped, mapped_column

from schema.tables.base import Base, CreatedAt, Id


class AuditEntryRow(Base):
    """Who did what, when, from where. A trigger refuses UPDATE and DELETE."""

    __tablename__ = "audit_entries"
    __table_args__ = (
        Index("ix_audit_entries_action_id", "action", "id"),
        Index("ix_audit_entries_resource_type_id", "resource_type", "id"),
        Index("ix_audit_entries_actor_id_id", "actor_id", "id"),
        Index("ix_audit_entries_created_at", "created_at"),
    )

    id: Mapped[Id]
    action: Mapped[str] = mapped_column(String(64))
    resource_type: Mapped[str] = mapped_column(String(64))
    resource_id: Mapped[str | None] = mapped_column(String(255))
    actor_type: Mapped[str] = mapped_column(String(16))
    actor_id: Mapped[int | None] = mapped_column(BigInteger)
    details: Mapped[str | None] = mapped_column(Text)
    changes: Mapped[dict[str, JsonValue]] = mapped_column(JSONB)
    ip_address: Mapped[str | None] = mapped_column(String(64))
    request_id: Mapped[str | None] = mapped_column(String(128))
    created_at: Mapped[CreatedAt]


class AuditWaitingRow(Base):
    """An entry that no seal covers yet; the sealer takes what is committed, in order of id."""

    __tablename__ = "audit_waiting"

    entry_id: Mapped[int] = mapped_column(BigInteger, primary_key=True)


class AuditSealRow(Base):
    """A link of the chain: the hash over the seal before it and the entries it names.

    A trigger refuses UPDATE and DELETE here too.
    """

    __tablename__ = "audit_seals"

    id: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    entry_ids: Mapped[list[int]] = mapped_column(ARRAY(BigInteger))
    previous_hash: Mapped[str] = mapped_column(String(64))
    hash: Mapped[str] = mapped_column(String(64))
    key_id: Mapped[str | None] = mapped_column(String(16))
    """Names the key of `mac`; None where no ENCRYPTION_KEY was set."""
    mac: Mapped[str | None] = mapped_column(String(64))
    sealed_at: Mapped[CreatedAt]
