"""Memories: keeping, listing and forgetting them."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import JsonValue

from conclave.auditing import AuditLog, changed
from conclave.db import Database, Transaction
from conclave.errors import Invalid
from conclave.events import EventLog
from conclave.memories.commands import CreateMemory
from conclave.memories.errors import MemoryNotFound, NoSuchAgent, NoSuchConversation
from conclave.memories.repository import MemoryRepository
from schema.domain.events import EventDraft, EventType
from schema.domain.identity import Principal
from schema.domain.memories import Memory, MemoryScope

_SHARED_STREAM = "memories"
"""The stream of memories that belong to no agent."""


class MemoryService:
    """The use cases of memories.

    What is remembered of somebody's session or chat is as private as that; admins see all.
    """

    def __init__(self, db: Database, events: EventLog, audit: AuditLog) -> None:
        self._db = db
        self._events = events
        self._audit = audit
        self._memories = MemoryRepository()

    async def create(self, command: CreateMemory, principal: Principal) -> Memory:
        """Store a new memory.

        Raises `Invalid` for an agent that is missing or not there, `NoSuchConversation` for a
        conversation that is not there for the caller.
        """
        scope = command.scope or _usual_scope(command.agent_id)
        if scope is MemoryScope.AGENT and command.agent_id is None:
            raise Invalid("agent_id", "required for a memory of scope agent")
        values = command.model_dump(mode="json") | {"scope": scope.value}
        async with self._db.transaction() as tx:
            if command.agent_id is not None and not await self._memories.agent_exists(
                tx, command.agent_id, lock=True
            ):
                raise Invalid("agent_id", f"no agent has the id {command.agent_id}")
            if scope is MemoryScope.CONVERSATION:
                await self._require_conversation(tx, command.scope_id, principal)
            memory = await self._memories.insert(tx, values)
            await self._tell(tx, EventType.MEMORY_CREATED, memory)
            changes = changed({}, _columns(memory))
            await self._audit.record(tx, "memory_created", "memory", memory.id, changes=changes)
        return memory

    async def of_agent(
        self, agent_id: int, principal: Principal, limit: int, offset: int
    ) -> tuple[Sequence[Memory], int]:
        """Return a piece of an agent's memories and their number. Raises `NoSuchAgent`."""
        async with self._db.transaction() as tx:
            if not await self._memories.agent_exists(tx, agent_id):
                raise NoSuchAgent(agent_id)
            reader = _reader(principal)
            return await self._memories.of_agent(tx, agent_id, reader, limit, offset)

    async def delete(self, memory_id: int, principal: Principal) -> None:
        """Delete one memory for good. Raises `MemoryNotFound`, also the second time."""
        async with self._db.transaction() as tx:
            memory = await self._memories.delete(tx, memory_id, _reader(principal))
            if memory is None:
                raise MemoryNotFound(memory_id)
            await self._tell(tx, EventType.MEMORY_DELETED, memory)
            changes = changed(_columns(memory), {})
            await self._audit.record(tx, "memory_deleted", "memory", memory.id, changes=changes)

    async def _require_conversation(
        self, tx: Transaction, conversation_id: int | None, principal: Principal
    ) -> None:
        reader = _reader(principal)
        if reader is None or conversation_id is None:
            return
        if not await self._memories.may_see_conversation(tx, conversation_id, reader):
            raise NoSuchConversation(conversation_id)

    async def _tell(self, tx: Transaction, kind: EventType, memory: Memory) -> None:
        """Say that it happened, without a word of the memory: events outlive what is deleted."""
        agent_id = memory.agent_id
        draft = EventDraft(
            stream=_SHARED_STREAM if agent_id is None else f"agent-{agent_id}",
            type=kind,
            data={
                "memory_id": memory.id,
                "agent_id": agent_id,
                "scope": memory.scope.value,
                "scope_id": memory.scope_id,
                "memory_type": memory.memory_type.value,
            },
            agent_id=agent_id,
            owner=await self._memories.private_owner(tx, memory),
        )
        await self._events.append(tx, [draft])


def _columns(memory: Memory) -> dict[str, JsonValue]:
    """Return what the audit log tells of a memory: no word of it, since entries are for ever."""
    words = {"key", "content", "tags"}
    return memory.model_dump(mode="json", exclude={"id", "created_at", *words})


def _usual_scope(agent_id: int | None) -> MemoryScope:
    return MemoryScope.GLOBAL if agent_id is None else MemoryScope.AGENT


def _reader(principal: Principal) -> str | None:
    return None if principal.is_admin else principal.key
