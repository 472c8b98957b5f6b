"""Memories: what is kept beyond the conversation it came up in."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from schema.domain.base import Shape


class MemoryScope(StrEnum):
    """What a memory is about, and so where it counts; `global` counts everywhere."""

    GLOBAL = "global"
    CIRCLE = "circle"
    AGENT = "agent"
    CONVERSATION = "conversation"
    PROJECT = "project"
    TASK = "task"


class MemoryType(StrEnum):
    """What kind of knowledge it is."""

    FACT = "fact"
    PREFERENCE = "preference"
    EXPERIENCE = "experience"
    SKILL = "skill"
    RELATIONSHIP = "relationship"
    CONTEXT = "context"
    DECISION = "decision"


class Memory(Shape):
    """A memory as stored. `key` is a label that may repeat; `importance` is from 0 to 1.

    `agent_id` is the agent it belongs to, None where it belongs to nobody in particular.
    `scope_id` is the id of the circle, conversation, project or task that `scope` speaks of.
    """

    id: int
    agent_id: int | None
    scope: MemoryScope
    scope_id: int | None
    key: str
    content: str
    memory_type: MemoryType
    tags: list[str]
    importance: float
    created_at: datetime
