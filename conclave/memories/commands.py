"""What can be asked of memories, in the core's own shapes."""

from __future__ import annotations

from pydantic import Field

from schema.domain.base import Shape
from schema.domain.memories import MemoryScope, MemoryType


class CreateMemory(Shape):
    """A new memory. Without a scope it is its agent's, or everybody's where it names none."""

    key: str
    content: str
    agent_id: int | None = None
    scope: MemoryScope | None = None
    scope_id: int | None = None
    memory_type: MemoryType = MemoryType.FACT
    tags: list[str] = Field(default_factory=list)
    importance: float = 0.5
