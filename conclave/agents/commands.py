"""What can be asked of agents, in the core's own shapes."""

from __future__ import annotations

from enum import StrEnum

from pydantic import Field, JsonValue

from schema.domain.agents import AgentConfig, Personality
from schema.domain.base import Shape
from schema.domain.providers import ProviderName


class BusyPolicy(StrEnum):
    """What deleting an agent does while a turn of it runs."""

    REFUSE = "refuse_if_busy"


class CreateAgent(Shape):
    """A new agent."""

    name: str
    provider: ProviderName
    model: str
    role: str | None = None
    personality: Personality = Personality()
    background: dict[str, JsonValue] = Field(default_factory=dict[str, JsonValue])
    config: AgentConfig = AgentConfig()


class UpdateAgent(Shape):
    """Changes to an agent: only fields that were set count.

    `personality` and `config` are merged key by key, `background` is replaced.
    """

    name: str = ""
    role: str | None = None
    provider: ProviderName = ProviderName.ANTHROPIC
    model: str = ""
    personality: dict[str, JsonValue] = Field(default_factory=dict[str, JsonValue])
    background: dict[str, JsonValue] = Field(default_factory=dict[str, JsonValue])
    config: dict[str, JsonValue] = Field(default_factory=dict[str, JsonValue])
