"""All SQL on memories."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sqlalchemy import ColumnElement, delete, func, insert, select, true

from conclave.db import Transaction
from schema.domain.conversations import ConversationKind
from schema.domain.memories import Memory, MemoryScope
from schema.tables.agents import AgentRow
from schema.tables.conversations import ConversationRow
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


_IS_PRIVATE = ConversationRow.kind.in_([kind for kind in ConversationKind if kind.is_private])
"""Sessions and chats are their owner's, and so is what is remembered of them."""


class MemoryRepository:
    """Memories keep the agent they belong to, also where that is deleted.

    `reader` is the key of who asks: what belongs to other people's sessions and chats is not
    there for it. None sees everything.
    """

    async def insert(self, tx: Transaction, values: Mapping[str, object]) -> Memory:
        """Store a memory and return it."""
        result = await tx.conn.execute(insert(MemoryRow).values(**values).returning(*_COLUMNS))
        return Memory.model_validate(result.mappings().one())

    async def of_agent(
        self, tx: Transaction, agent_id: int, reader: str | None, limit: int, offset: int
    ) -> tuple[Sequence[Memory], int]:
        """Return a piece of an agent's memories, oldest first, and the number of them all."""
        wanted = (MemoryRow.agent_id == agent_id, _visible_to(reader))
        total = await tx.conn.execute(select(func.count()).select_from(MemoryRow).where(*wanted))
        result = await tx.conn.execute(
            select(*_COLUMNS).where(*wanted).order_by(MemoryRow.id).limit(limit).offset(offset)
        )
        return [Memory.model_validate(row) for row in result.mappings()], total.scalar_one()

    async def delete(self, tx: Transaction, memory_id: int, reader: str | None) -> Memory | None:
        """Delete one memory and return what it was; None when there was none."""
        result = await tx.conn.execute(
            delete(MemoryRow)
            .where(MemoryRow.id == memory_id, _visible_to(reader))
            .returning(*_COLUMNS)
        )
        row = result.mappings().one_or_none()
        return None if row is None else Memory.model_validate(row)

    async def private_owner(self, tx: Transaction, memory: Memory) -> str | None:
        """Return whose alone the memory is; None where everybody may see it."""
        if memory.scope is not MemoryScope.CONVERSATION or memory.scope_id is None:
            return None
        owner = await tx.conn.scalar(
            select(ConversationRow.owner).where(ConversationRow.id == memory.scope_id, _IS_PRIVATE)
        )
        return owner

    async def may_see_conversation(
        self, tx: Transaction, conversation_id: int, reader: str
    ) -> bool:
        """Whether there is such a conversation for the reader."""
        found = await tx.conn.scalar(
            select(ConversationRow.id).where(
                ConversationRow.id == conversation_id,
                ~_IS_PRIVATE | (ConversationRow.owner == reader),
            )
        )
        return found is not None

    async def agent_exists(self, tx: Transaction, agent_id: int, *, lock: bool = False) -> bool:
        """Whether there is such an agent; locked, it cannot be deleted meanwhile."""
        statement = select(AgentRow.id).where(
            AgentRow.id == agent_id, AgentRow.deleted_at.is_(None)
        )
        if lock:
            statement = statement.with_for_update(read=True)
        return (await tx.conn.execute(statement)).scalar_one_or_none() is not None


def _visible_to(reader: str | None) -> ColumnElement[bool]:
    if reader is None:
        return true()
    of_others = select(ConversationRow.id).where(
        ConversationRow.id == MemoryRow.scope_id, _IS_PRIVATE, ConversationRow.owner != reader
    )
    return ~((MemoryRow.scope == MemoryScope.CONVERSATION) & of_others.exists())
