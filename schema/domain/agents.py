"""Agents: who speaks, with which model, under which instructions."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from pydantic import ConfigDict, Field, JsonValue

from schema.domain.base import Shape


class AgentStatus(StrEnum):
    """The one status map of all dialects, most telling first."""

    OFFLINE = "offline"
    MAINTENANCE = "maintenance"
    PAUSED = "paused"
    ERROR = "error"
    BUSY = "busy"
    ACTIVE = "active"
    IDLE = "idle"


class Personality(Shape):
    """How an agent talks. Keys a client adds are kept."""

    model_config = ConfigDict(frozen=True, extra="allow")

    traits: list[str] = Field(default_factory=list)
    communication_style: str = "professional"
    languages: list[str] = Field(default_factory=lambda: ["English"])


class AgentConfig(Shape):
    """How its model is called. Keys a client adds are kept."""

    model_config = ConfigDict(frozen=True, extra="allow")

    temperature: float = Field(default=0.7, ge=0, le=2)
    max_tokens: int = Field(default=4096, ge=1, le=1_000_000)
    tools: list[str] = Field(default_factory=list)


class Agent(Shape):
    """An agent as stored; `status` is derived when it is read."""

    id: int
    slug: str
    name: str
    role: str | None
    provider: str
    model: str
    personality: Personality
    background: dict[str, JsonValue]
    config: AgentConfig
    status: AgentStatus
    created_at: datetime
    updated_at: datetime
