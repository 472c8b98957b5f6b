"""All SQL on memories."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sqlalchemy import delete, func, insert, select

from conclave.db import Transaction
from schema.domain.memories import Memory
from schema.tables.agents import AgentRow
from schema.tables.memories import MemoryRow

_COLUMNS = (
    MemoryRow.id,
    MemoryRow.agent_id,
    MemoryRow.scope,
    MemoryRow.scope_id,
    MemoryRow.key,
    MemoryRow.content,
    MemoryRow.memory_type,
    MemoryRow.tags,
    MemoryRow.importance,
    MemoryRow.created_at,
)


class MemoryRepository:
    """Memories keep the agent they belong to, also where that is deleted."""

    async def insert(self, tx: Transaction, values: Mapping[str, object]) -> Memory:
        """Store a memory and return it."""
        result = await tx.conn.execute(insert(MemoryRow).values(**values).returning(*_COLUMNS))
        return Memory.model_validate(result.mappings().one())

    async def of_agent(
        self, tx: Transaction, agent_id: int, limit: int, offset: int
    ) -> tuple[Sequence[Memory], int]:
        """Return a piece of an agent's memories, oldest first, and the number of them all."""
        belongs = MemoryRow.agent_id == agent_id
        total = await tx.conn.execute(select(func.count()).select_from(MemoryRow).where(belongs))
        result = await tx.conn.execute(
            select(*_COLUMNS).where(belongs).order_by(MemoryRow.id).limit(limit).offset(offset)
        )
        return [Memory.model_validate(row) for row in result.mappings()], total.scalar_one()

    async def delete(self, tx: Transaction, memory_id: int) -> Memory | None:
        """Delete one memory and return what it was; None when there was none."""
        result = await tx.conn.execute(
            delete(MemoryRow).where(MemoryRow.id == memory_id).returning(*_COLUMNS)
        )
        row = result.mappings().one_or_none()
        return None if row is None else Memory.model_validate(row)

    async def agent_exists(self, tx: Transaction, agent_id: int, *, lock: bool = False) -> bool:
        """Whether there is such an agent; locked, it cannot be deleted meanwhile."""
        statement = select(AgentRow.id).where(
            AgentRow.id == agent_id, AgentRow.deleted_at.is_(None)
        )
        if lock:
            statement = statement.with_for_update(read=True)
        return (await tx.conn.execute(statement)).scalar_one_or_none() is not None
