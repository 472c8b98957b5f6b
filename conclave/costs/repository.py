"""All SQL that sums up the ledger. A call counts once it is settled; all are of calls sent.

Sums are of the ledger's own amounts (9 decimals). Days are UTC days, `since` is the first of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from decimal import Decimal

from sqlalchemy import func, select, text

from conclave.db import Transaction
from schema.domain.base import Shape
from schema.domain.costs import AgentSpend, ModelSpend
from schema.tables.agents import AgentRow
from schema.tables.model_calls import ModelCallRow

# The very words of the index's condition.
_SETTLED = text("model_calls.status <> 'reserved'")
_SUMS = (
    func.coalesce(func.sum(ModelCallRow.cost_usd), 0).label("cost"),
    func.coalesce(func.sum(ModelCallRow.tokens_in), 0).label("tokens_in"),
    func.coalesce(func.sum(ModelCallRow.tokens_out), 0).label("tokens_out"),
    func.count().label("requests"),
)


class DayAndProvider(Shape):
    """What one provider cost on one day."""

    day: date
    provider: str
    cost: Decimal
    tokens_in: int
    tokens_out: int
    requests: int


class CostRepository:
    """Reads the ledger."""

    async def by_day(self, tx: Transaction, since: date) -> Sequence[DayAndProvider]:
        """Return the sums by day and provider, oldest first."""
        rows = await tx.conn.execute(
            select(ModelCallRow.day, ModelCallRow.provider, *_SUMS)
            .where(_SETTLED, ModelCallRow.day >= since)
            .group_by(ModelCallRow.day, ModelCallRow.provider)
            .order_by(ModelCallRow.day, ModelCallRow.provider)
        )
        return [DayAndProvider.model_validate(row) for row in rows.mappings()]

    async def by_agent(self, tx: Transaction, since: date) -> Sequence[AgentSpend]:
        """Return the sums by agent, deleted ones too, highest first."""
        sums = (
            select(ModelCallRow.agent_id, *_SUMS)
            .where(_SETTLED, ModelCallRow.day >= since)
            .group_by(ModelCallRow.agent_id)
            .subquery()
        )
        rows = await tx.conn.execute(
            select(sums, AgentRow.name.label("agent_name"), AgentRow.provider, AgentRow.model)
            .outerjoin(AgentRow, AgentRow.id == sums.c.agent_id)
            .order_by(sums.c.cost.desc(), sums.c.agent_id)
        )
        return [AgentSpend.model_validate(row) for row in rows.mappings()]

    async def by_model(self, tx: Transaction, since: date) -> Sequence[ModelSpend]:
        """Return the sums by provider and model, highest first."""
        cost = _SUMS[0]
        rows = await tx.conn.execute(
            select(ModelCallRow.provider, ModelCallRow.model, *_SUMS)
            .where(_SETTLED, ModelCallRow.day >= since)
            .group_by(ModelCallRow.provider, ModelCallRow.model)
            .order_by(cost.desc(), ModelCallRow.provider, ModelCallRow.model)
        )
        return [ModelSpend.model_validate(row) for row in rows.mappings()]

    async def total(self, tx: Transaction, before: date) -> Decimal:
        """Return what all calls before a day cost."""
        found = await tx.conn.scalar(
            select(func.coalesce(func.sum(ModelCallRow.cost_usd), 0)).where(
                _SETTLED, ModelCallRow.day < before
            )
        )
        return found or Decimal(0)

    async def spent(self, tx: Transaction, since: date, until: date) -> Decimal:
        """Return what calls of the days before `until` cost."""
        found = await tx.conn.scalar(
            select(func.coalesce(func.sum(ModelCallRow.cost_usd), 0)).where(
                _SETTLED, ModelCallRow.day >= since, ModelCallRow.day < until
            )
        )
        return found or Decimal(0)
