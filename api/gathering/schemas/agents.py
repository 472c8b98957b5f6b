"""Agents as this dialect writes them."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated

from pydantic import BaseModel, Field, StringConstraints, field_validator

from api.gathering.schemas.fields import Keys, Prompt, refuse_null
from conclave.agents.commands import CreateAgent, UpdateAgent
from schema.domain.agents import Agent, AgentConfig, AgentStatus, Personality
from schema.domain.conversations import Conversation, ConversationStatus
from schema.domain.providers import ProviderName

DEFAULT_PROVIDER = ProviderName.ANTHROPIC
DEFAULT_MODEL = "claude-sonnet-4-20250514"

AgentName = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=100)]
Role = Annotated[str, StringConstraints(max_length=100)]
ModelName = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=255)]


class ShownStatus(StrEnum):
    """The statuses this dialect knows; error, paused and maintenance show as offline."""

    IDLE = "idle"
    BUSY = "busy"
    ACTIVE = "active"
    OFFLINE = "offline"

    @classmethod
    def of(cls, status: AgentStatus) -> ShownStatus:
        """Return how a status is shown."""
        return _SHOWN.get(status, cls.OFFLINE)

    def meaning(self) -> frozenset[AgentStatus]:
        """Return the statuses that are shown as this one."""
        return frozenset(status for status in AgentStatus if ShownStatus.of(status) is self)


_SHOWN = {
    AgentStatus.IDLE: ShownStatus.IDLE,
    AgentStatus.BUSY: ShownStatus.BUSY,
    AgentStatus.ACTIVE: ShownStatus.ACTIVE,
}


class AgentIn(BaseModel):
    """A new agent."""

    name: AgentName
    role: Role | None = None
    provider: ProviderName = DEFAULT_PROVIDER
    model: ModelName = DEFAULT_MODEL
    personality: Personality = Personality()
    background: Keys = Field(default_factory=Keys)
    config: AgentConfig = AgentConfig()

    def to_command(self) -> CreateAgent:
        """Return it in the core's words."""
        return CreateAgent(
            name=self.name,
            role=self.role,
            provider=self.provider,
            model=self.model,
            personality=self.personality,
            background=self.background,
            config=self.config,
        )


class AgentPatch(BaseModel):
    """Changes: what is left out stays; `config` and `personality` are merged key by key."""

    name: AgentName | None = None
    role: Role | None = None
    provider: ProviderName | None = None
    model: ModelName | None = None
    personality: Keys | None = None
    background: Keys | None = None
    config: Keys | None = None

    @field_validator(
        "name", "provider", "model", "personality", "background", "config", mode="before"
    )
    @classmethod
    def _not_null(cls, value: object) -> object:
        return refuse_null(value)

    def to_command(self) -> UpdateAgent:
        """Return it in the core's words, with only what was sent set."""
        return UpdateAgent.model_validate(self.model_dump(exclude_unset=True))


class AgentRowOut(BaseModel):
    """An agent in a list."""

    id: int
    name: str
    role: str | None
    provider: str
    model: str
    status: ShownStatus
    created_at: datetime

    @classmethod
    def from_domain(cls, agent: Agent) -> AgentRowOut:
        """Render one."""
        return cls(
            id=agent.id,
            name=agent.name,
            role=agent.role,
            provider=agent.provider,
            model=agent.model,
            status=ShownStatus.of(agent.status),
            created_at=agent.created_at,
        )


class AgentOut(AgentRowOut):
    """An agent in full."""

    personality: Personality
    background: Keys
    config: AgentConfig
    updated_at: datetime

    @classmethod
    def from_domain(cls, agent: Agent) -> AgentOut:
        """Render one."""
        return cls(
            id=agent.id,
            name=agent.name,
            role=agent.role,
            provider=agent.provider,
            model=agent.model,
            status=ShownStatus.of(agent.status),
            created_at=agent.created_at,
            personality=agent.personality,
            background=agent.background,
            config=agent.config,
            updated_at=agent.updated_at,
        )


class SessionIn(BaseModel):
    """How a session begins."""

    initial_prompt: Prompt | None = None


class SessionOut(BaseModel):
    """A conversation of one agent with the caller."""

    id: int
    agent_id: int
    status: ConversationStatus
    started_at: datetime
    ended_at: datetime | None
    message_count: int

    @classmethod
    def from_domain(cls, conversation: Conversation) -> SessionOut:
        """Render one."""
        return cls(
            id=conversation.id,
            agent_id=conversation.agent_ids[0],
            status=conversation.status,
            started_at=conversation.created_at,
            ended_at=conversation.ended_at,
            message_count=conversation.message_count,
        )
