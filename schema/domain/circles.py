"""Circles: named teams of agents and the rules they talk under."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from pydantic import ConfigDict, Field, field_validator

from schema.domain.base import Shape
from schema.domain.conversations import TurnStrategy, parse_turn_strategy


class CircleStatus(StrEnum):
    """created → active ⇄ paused → archived (final)."""

    CREATED = "created"
    ACTIVE = "active"
    PAUSED = "paused"
    ARCHIVED = "archived"


class MemberRole(StrEnum):
    """What a member does in its circle; observers are never given a turn."""

    LEAD = "lead"
    MEMBER = "member"
    SPECIALIST = "specialist"
    REVIEWER = "reviewer"
    OBSERVER = "observer"


class CircleConfig(Shape):
    """The rules a circle's conversations run under; keys a client adds are kept.

    `turn_timeout` is in seconds and bounds one model call.
    """

    model_config = ConfigDict(frozen=True, extra="allow")

    max_agents: int = Field(default=10, ge=1, le=50)
    conversation_mode: TurnStrategy = TurnStrategy.ROUND_ROBIN
    moderator_agent_id: int | None = None
    turn_timeout: int = Field(default=30, ge=1, le=3600)
    max_turns_per_conversation: int = Field(default=50, ge=1, le=500)
    memory_scope: str = "circle"
    allow_tools: bool = True

    @field_validator("conversation_mode", mode="before")
    @classmethod
    def _both_spellings(cls, value: object) -> object:
        return parse_turn_strategy(value)


class Circle(Shape):
    """A circle as stored, with the number of its members."""

    id: int
    name: str
    display_name: str
    description: str | None
    status: CircleStatus
    agent_count: int
    config: CircleConfig
    created_at: datetime
    updated_at: datetime


class Member(Shape):
    """An agent's place in a circle."""

    agent_id: int
    agent_name: str
    provider: str
    model: str
    role: MemberRole
    joined_at: datetime
