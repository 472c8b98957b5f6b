"""Memories as this dialect writes them: their content is called `value`."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from pydantic import BaseModel, Field, StringConstraints

from api.gathering.schemas.fields import Id
from conclave.memories.commands import CreateMemory
from schema.domain.memories import Memory, MemoryScope, MemoryType

MAX_TAGS = 50

Key = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200)]
Value = Annotated[str, StringConstraints(min_length=1, max_length=20_000)]
Tag = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=100)]
Tags = Annotated[list[Tag], Field(max_length=MAX_TAGS)]
Importance = Annotated[float, Field(ge=0, le=1)]


class MemoryIn(BaseModel):
    """A new memory; `scope` is `agent` where an agent is named and `global` else."""

    key: Key
    value: Value
    agent_id: Id | None = None
    scope: MemoryScope | None = None
    scope_id: Id | None = None
    memory_type: MemoryType = MemoryType.FACT
    tags: Tags = Field(default_factory=list[str])
    importance: Importance = 0.5

    def to_command(self) -> CreateMemory:
        """Return it in the core's words."""
        return CreateMemory(
            key=self.key,
            content=self.value,
            agent_id=self.agent_id,
            scope=self.scope,
            scope_id=self.scope_id,
            memory_type=self.memory_type,
            tags=self.tags,
            importance=self.importance,
        )


class MemoryOut(BaseModel):
    """A memory."""

    id: int
    agent_id: int | None
    scope: MemoryScope
    scope_id: int | None
    key: str
    value: str
    memory_type: MemoryType
    tags: list[str]
    importance: float
    created_at: datetime

    @classmethod
    def from_domain(cls, memory: Memory) -> MemoryOut:
        """Render one."""
        return cls(
            id=memory.id,
            agent_id=memory.agent_id,
            scope=memory.scope,
            scope_id=memory.scope_id,
            key=memory.key,
            value=memory.content,
            memory_type=memory.memory_type,
            tags=memory.tags,
            importance=memory.importance,
            created_at=memory.created_at,
        )
