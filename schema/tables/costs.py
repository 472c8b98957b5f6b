"""Budgets: the limit of the platform, what counts against limits, alerts, and own prices."""

from __future__ import annotations

from datetime import date
from decimal import Decimal

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Date,
    Index,
    Integer,
    Numeric,
    String,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column

from schema.tables.base import Base, CreatedAt, Id, Instant


class PlatformBudgetRow(Base):
    """The one row that says what may be spent in a calendar month (UTC); 0 or no row: no limit."""

    __tablename__ = "platform_budget"
    __table_args__ = (CheckConstraint("id = 1", name="single"),)

    id: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    monthly_limit_usd: Mapped[Decimal] = mapped_column(Numeric(18, 9))
    alert_thresholds: Mapped[list[Decimal]] = mapped_column(ARRAY(Numeric(9, 6)))
    """Percent of the limit, ascending."""
    hard_stop: Mapped[bool] = mapped_column(Boolean)
    updated_at: Mapped[CreatedAt]


class BudgetCounterRow(Base):
    """What was spent and is reserved of one limit in one period.

    `scope` platform has owner 0 and months, agent has agents and days; `since` begins the period.
    Where there is a row, every model call of that period is counted in it. Locked in the order
    platform, agent, after the conversation.
    """

    __tablename__ = "budget_counters"
    __table_args__ = (
        CheckConstraint("spent_usd >= 0 AND reserved_usd >= 0", name="sums"),
        Index("ix_budget_counters_refused", "since", postgresql_where=text("refused_usd > 0")),
    )

    scope: Mapped[str] = mapped_column(String(16), primary_key=True)
    owner_id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    since: Mapped[date] = mapped_column(Date, primary_key=True)
    spent_usd: Mapped[Decimal] = mapped_column(Numeric(18, 9), server_default="0")
    reserved_usd: Mapped[Decimal] = mapped_column(Numeric(18, 9), server_default="0")
    refused_usd: Mapped[Decimal] = mapped_column(Numeric(18, 9), server_default="0")
    """The least that a refused call needed; 0 where none waits for budget."""
    alert_at_usd: Mapped[Decimal | None] = mapped_column(Numeric(18, 9))
    """The spend that passes the next threshold; null where there is none."""


class BudgetAlertRow(Base):
    """A threshold that was passed in a month: told once."""

    __tablename__ = "budget_alerts"
    __table_args__ = (Index("uq_budget_alerts_month", "month", "threshold", unique=True),)

    id: Mapped[Id]
    month: Mapped[date] = mapped_column(Date)
    threshold: Mapped[Decimal] = mapped_column(Numeric(9, 6))
    level: Mapped[str] = mapped_column(String(16))
    message: Mapped[str] = mapped_column(String(500))
    created_at: Mapped[Instant]


class ModelPriceRow(Base):
    """What an administrator says a model costs that the price map does not know."""

    __tablename__ = "model_prices"

    provider: Mapped[str] = mapped_column(String(64), primary_key=True)
    model: Mapped[str] = mapped_column(String(255), primary_key=True)
    input_usd_per_million: Mapped[Decimal] = mapped_column(Numeric(18, 9))
    output_usd_per_million: Mapped[Decimal] = mapped_column(Numeric(18, 9))
    updated_at: Mapped[CreatedAt]
