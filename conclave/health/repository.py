"""The counts that health answers show."""

from __future__ import annotations

from sqlalchemy import func, select, text

from conclave.db import Transaction
from schema.domain.base import Shape
from schema.tables.agents import AgentRow
from schema.tables.circles import CircleRow
from schema.tables.conversations import ConversationRow


class Counts(Shape):
    """How much there is, and how much of it moves."""

    agents: int
    circles: int
    active_circles: int
    running_turns: int


class HealthRepository:
    """Reads only."""

    async def ping(self, tx: Transaction) -> None:
        """Ask the database for one row."""
        await tx.conn.execute(text("SELECT 1"))

    async def counts(self, tx: Transaction) -> Counts:
        """Count in one round trip."""
        circles = select(func.count()).select_from(CircleRow).where(CircleRow.deleted_at.is_(None))
        agents = select(func.count()).select_from(AgentRow).where(AgentRow.deleted_at.is_(None))
        turns = (
            select(func.count())
            .select_from(ConversationRow)
            .where(ConversationRow.speaking_agent_id.is_not(None))
        )
        row = await tx.conn.execute(
            select(
                agents.scalar_subquery().label("agents"),
                circles.scalar_subquery().label("circles"),
                circles.where(CircleRow.status == "active")
                .scalar_subquery()
                .label("active_circles"),
                turns.scalar_subquery().label("running_turns"),
            )
        )
        return Counts.model_validate(row.mappings().one())
