"""Circuit breakers."""

from __future__ import annotations

from datetime import datetime

from pydantic import JsonValue
from sqlalchemy import BigInteger, Boolean, DateTime, Integer, String
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.orm import Mapped, mapped_column

from schema.tables.base import Base, CreatedAt, Instant


class BreakerRow(Base):
    """One a name, made by its first call or by an administrator. See `schema.domain.breakers`."""

    __tablename__ = "circuit_breakers"

    name: Mapped[str] = mapped_column(String(100), primary_key=True)
    state: Mapped[str] = mapped_column(String(16), server_default="closed")
    forced: Mapped[bool] = mapped_column(Boolean, server_default="false")
    epoch: Mapped[int] = mapped_column(BigInteger, server_default="0")
    failure_threshold: Mapped[int] = mapped_column(Integer, server_default="5")
    recovery_timeout_seconds: Mapped[int] = mapped_column(Integer, server_default="60")
    success_threshold: Mapped[int] = mapped_column(Integer, server_default="3")
    window_seconds: Mapped[int] = mapped_column(Integer, server_default="120")
    half_open_max_requests: Mapped[int] = mapped_column(Integer, server_default="3")
    failures: Mapped[list[datetime]] = mapped_column(
        ARRAY(DateTime(timezone=True)), server_default="{}"
    )
    success_count: Mapped[int] = mapped_column(Integer, server_default="0")
    total_successes: Mapped[int] = mapped_column(BigInteger, server_default="0")
    total_failures: Mapped[int] = mapped_column(BigInteger, server_default="0")
    last_failure: Mapped[Instant | None]
    opened_at: Mapped[Instant | None]
    next_attempt_at: Mapped[Instant | None]
    probes: Mapped[list[JsonValue]] = mapped_column(JSONB, server_default="[]")
    transitions: Mapped[list[JsonValue]] = mapped_column(JSONB, server_default="[]")
    created_at: Mapped[CreatedAt]
