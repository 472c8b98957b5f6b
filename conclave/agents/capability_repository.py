"""All SQL on the capabilities of agents."""

from __future__ import annotations

from sqlalchemy import delete, select
from sqlalchemy.dialects.postgresql import insert

from conclave.db import Transaction
from schema.domain.agents import Capability
from schema.tables.agents import AgentCapabilityRow

_COLUMNS = (
    AgentCapabilityRow.id,
    AgentCapabilityRow.agent_id,
    AgentCapabilityRow.capability,
    AgentCapabilityRow.created_at,
)


class CapabilityRepository:
    """An agent has a capability once."""

    async def of_agent(self, tx: Transaction, agent_id: int) -> list[Capability]:
        """Return an agent's, oldest first."""
        rows = await tx.conn.execute(
            select(*_COLUMNS)
            .where(AgentCapabilityRow.agent_id == agent_id)
            .order_by(AgentCapabilityRow.id)
        )
        return [Capability.model_validate(row) for row in rows.mappings()]

    async def named(self, tx: Transaction, agent_id: int, name: str) -> Capability:
        """Return the one of that name, which is there."""
        row = await tx.conn.execute(
            select(*_COLUMNS).where(
                AgentCapabilityRow.agent_id == agent_id, AgentCapabilityRow.capability == name
            )
        )
        return Capability.model_validate(row.mappings().one())

    async def insert(self, tx: Transaction, agent_id: int, name: str) -> Capability | None:
        """Store one; None where the agent has it."""
        row = await tx.conn.execute(
            insert(AgentCapabilityRow)
            .values(agent_id=agent_id, capability=name)
            .on_conflict_do_nothing()
            .returning(*_COLUMNS)
        )
        found = row.mappings().one_or_none()
        return None if found is None else Capability.model_validate(found)

    async def delete(self, tx: Transaction, agent_id: int, capability_id: int) -> str | None:
        """Delete one and return its name; None where the agent has none of that id."""
        return await tx.conn.scalar(
            delete(AgentCapabilityRow)
            .where(AgentCapabilityRow.id == capability_id, AgentCapabilityRow.agent_id == agent_id)
            .returning(AgentCapabilityRow.capability)
        )
