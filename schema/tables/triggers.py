"""Triggers, their firings, what came in from outside, and how far the events were read."""

from __future__ import annotations

from decimal import Decimal

from pydantic import JsonValue
from sqlalchemy import (
    BigInteger,
    Boolean,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    Numeric,
    SmallInteger,
    String,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.orm import Mapped, mapped_column

from schema.tables.base import Base, CreatedAt, Document, Id, Instant, Ref


class TriggerRow(Base):
    """A trigger. `secret` verifies what comes in, `action_secrets` goes out; both are sealed.

    `secret_names` are the vault's secrets that config and action refer to. `over_since` and
    `has_crossed` are a threshold's state: since when it holds, and whether it has fired for it.
    What is locked: the firing first, then the trigger.
    """

    __tablename__ = "triggers"
    __table_args__ = (
        Index(
            "uq_triggers_slug",
            "slug",
            unique=True,
            postgresql_where=text("slug IS NOT NULL AND deleted_at IS NULL"),
        ),
        Index("ix_triggers_living", "id", postgresql_where=text("deleted_at IS NULL")),
        Index(
            "ix_triggers_rhythm",
            "check_every_seconds",
            "id",
            postgresql_where=text("check_every_seconds IS NOT NULL AND deleted_at IS NULL"),
        ),
        Index("ix_triggers_type", "type"),
    )

    id: Mapped[Id]
    name: Mapped[str] = mapped_column(String(255))
    type: Mapped[str] = mapped_column(String(16))
    config: Mapped[Document]
    action_type: Mapped[str] = mapped_column(String(32))
    action_config: Mapped[Document]
    slug: Mapped[str | None] = mapped_column(String(64))
    secret: Mapped[bytes | None] = mapped_column(LargeBinary)
    action_secrets: Mapped[bytes | None] = mapped_column(LargeBinary)
    secret_names: Mapped[list[str]] = mapped_column(ARRAY(String(255)), server_default="{}")
    is_active: Mapped[bool] = mapped_column(Boolean, server_default="true")
    agent_id: Mapped[int | None] = mapped_column(BigInteger)
    fire_count: Mapped[int] = mapped_column(BigInteger, server_default="0")
    last_fired_at: Mapped[Instant | None]
    last_status: Mapped[str | None] = mapped_column(String(16))
    revision: Mapped[int] = mapped_column(Integer, server_default="1")
    check_every_seconds: Mapped[int | None] = mapped_column(Integer)
    over_since: Mapped[Instant | None]
    has_crossed: Mapped[bool] = mapped_column(Boolean, server_default="false")
    crossings: Mapped[int] = mapped_column(Integer, server_default="0")
    created_by: Mapped[int | None] = mapped_column(BigInteger)
    created_by_key: Mapped[str] = mapped_column(String(64))
    armed_at: Mapped[CreatedAt]
    created_at: Mapped[CreatedAt]
    updated_at: Mapped[CreatedAt]
    deleted_at: Mapped[Instant | None]


class TriggerRunRow(Base):
    """A firing, once for its key. `made_kind` and `made_id` name what it left behind.

    What came from outside is not stored twice: `inbound_id` says where it is.

    `sent_at` is set before somebody else's server is called: a call may have reached it.
    """

    __tablename__ = "trigger_runs"
    __table_args__ = (
        UniqueConstraint("trigger_id", "firing_key"),
        Index("ix_trigger_runs_trigger", "trigger_id", "id"),
        Index(
            "ix_trigger_runs_inbound", "inbound_id", postgresql_where=text("inbound_id IS NOT NULL")
        ),
        Index(
            "ix_trigger_runs_made",
            "made_kind",
            "made_id",
            postgresql_where=text("made_id IS NOT NULL"),
        ),
    )

    id: Mapped[Id]
    trigger_id: Mapped[Ref] = mapped_column(ForeignKey("triggers.id"))
    firing_key: Mapped[str] = mapped_column(String(255))
    status: Mapped[str] = mapped_column(String(16))
    event_data: Mapped[Document]
    inbound_id: Mapped[int | None] = mapped_column(BigInteger)
    result: Mapped[dict[str, JsonValue]] = mapped_column(JSONB, server_default="{}")
    error: Mapped[str | None] = mapped_column(Text)
    chain_depth: Mapped[int] = mapped_column(SmallInteger, server_default="0")
    attempts: Mapped[int] = mapped_column(SmallInteger, server_default="0")
    made_kind: Mapped[str | None] = mapped_column(String(16))
    made_id: Mapped[int | None] = mapped_column(BigInteger)
    created_at: Mapped[CreatedAt]
    claimed_at: Mapped[Instant | None]
    sent_at: Mapped[Instant | None]
    finished_at: Mapped[Instant | None]
    duration_ms: Mapped[Decimal] = mapped_column(Numeric(14, 3), server_default="0")


class InboundEventRow(Base):
    """What came in at /webhook/{slug}, stored once for its delivery id before it was answered.

    `identity` is the hash of what tells the same content under another delivery id.
    """

    __tablename__ = "inbound_events"
    __table_args__ = (
        UniqueConstraint("source", "delivery_id"),
        Index("ix_inbound_events_identity", "source", "identity", "id"),
    )

    id: Mapped[Id]
    source: Mapped[str] = mapped_column(String(80))
    delivery_id: Mapped[str] = mapped_column(String(255))
    identity: Mapped[str | None] = mapped_column(String(64))
    event_name: Mapped[str | None] = mapped_column(String(255))
    action: Mapped[str | None] = mapped_column(String(255))
    status: Mapped[str] = mapped_column(String(16))
    trigger_id: Mapped[int | None] = mapped_column(BigInteger)
    headers: Mapped[Document]
    body: Mapped[JsonValue] = mapped_column(JSONB)
    body_bytes: Mapped[int] = mapped_column(Integer)
    created_at: Mapped[CreatedAt]


class EventCursorRow(Base):
    """How far a reader of the event log came: (xid, event id) of the last one read."""

    __tablename__ = "event_cursors"

    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    xid: Mapped[int] = mapped_column(BigInteger)
    event_id: Mapped[int] = mapped_column(BigInteger)
    updated_at: Mapped[CreatedAt]
