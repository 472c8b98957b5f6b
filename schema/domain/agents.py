"""Agents: who speaks, with which model, under which instructions."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Final, Literal, TypeAlias, cast

from pydantic import ConfigDict, Field, JsonValue

from schema.domain.base import Shape
from schema.domain.permissions import Autonomy
from schema.domain.providers import ProviderName

AgentProvider: TypeAlias = ProviderName | Literal["demo"]
"""Who answers for an agent; `demo` answers without a key and without a network."""


class AgentStatus(StrEnum):
    """The one status map of all dialects, most telling first."""

    OFFLINE = "offline"
    MAINTENANCE = "maintenance"
    PAUSED = "paused"
    ERROR = "error"
    BUSY = "busy"
    ACTIVE = "active"
    """In an active circle."""
    IDLE = "idle"

    @property
    def told(self) -> AgentStatus:
        """The status as events and the platform dialect tell it: they know no circles."""
        return AgentStatus.IDLE if self is AgentStatus.ACTIVE else self


AT_REST: Final = frozenset(
    {AgentStatus.OFFLINE, AgentStatus.MAINTENANCE, AgentStatus.PAUSED, AgentStatus.ERROR}
)
"""What is stored of an agent that is given no work; all else is derived from what runs."""


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

    @property
    def disabled_tools(self) -> tuple[str, ...]:
        """The tools that were named and switched off: refused, and shown as false."""
        return _texts(self.model_extra, "disabled_tools")

    @property
    def tool_blacklist(self) -> tuple[str, ...]:
        """The tools the agent may never use."""
        return _texts(self.model_extra, "tool_blacklist")

    @property
    def autonomy(self) -> Autonomy:
        """How far the agent goes without asking; what cannot be read is cautious."""
        level = (self.model_extra or {}).get("autonomy_level")
        return Autonomy(level) if level in set(Autonomy) else Autonomy.CAUTIOUS


def _texts(keys: Mapping[str, object] | None, name: str) -> tuple[str, ...]:
    found = (keys or {}).get(name)
    names = cast("list[object]", found) if isinstance(found, list) else []
    return tuple(text for text in names if isinstance(text, str))


class RiskRules(Shape):
    """What an agent may not do unasked, whatever its autonomy."""

    max_file_delete_mb: float = Field(default=100, ge=0, le=1_000_000)
    require_approval_for: list[str] = Field(default_factory=list)
    """Tools that always need a yes."""
    block_external_api: bool = False
    """Tools that call out are refused."""


class ModelRef(Shape):
    """A model of a provider."""

    provider: str
    model: str


class Agent(Shape):
    """An agent as stored; `status` is derived when it is read."""

    id: int
    slug: str
    name: str
    description: str | None
    role: str | None
    provider: str
    model: str
    system_prompt: str | None
    personality: Personality
    background: dict[str, JsonValue]
    config: AgentConfig
    max_concurrent_tasks: int
    worker_id: int | None
    tags: list[str]
    risk_rules: RiskRules
    fallback_models: list[ModelRef]
    """Asked in order while its own model cannot answer."""
    daily_budget_usd: Decimal
    """0: no limit; so is `max_tokens_per_task`."""
    max_tokens_per_task: int
    memory_limit_mb: int
    status: AgentStatus
    tasks_completed: int
    tasks_failed: int
    task_seconds: Decimal
    """What its completed tasks took in all."""
    last_active_at: datetime | None
    created_at: datetime
    updated_at: datetime

    @property
    def success_rate(self) -> float:
        """Percent of the tasks that ended, with one decimal; 0 where none did."""
        ended = self.tasks_completed + self.tasks_failed
        return round(100 * self.tasks_completed / ended, 1) if ended else 0.0

    @property
    def average_task_seconds(self) -> float:
        """How long a completed task took; 0 where there is none."""
        completed = self.tasks_completed
        return round(float(self.task_seconds) / completed, 3) if completed else 0.0

    @property
    def instructions(self) -> str | None:
        """Its system prompt; agents made before it had a place of its own keep it in `config`."""
        if self.system_prompt is not None:
            return self.system_prompt
        kept = (self.config.model_extra or {}).get("system_prompt")
        return kept if isinstance(kept, str) else None


class Capability(Shape):
    """What an agent is said to be able to do."""

    id: int
    agent_id: int
    capability: str
    created_at: datetime


class AgentUsage(Shape):
    """What the model calls of an agent used, by the ledger."""

    tokens: int = 0
    cost_usd: Decimal = Decimal(0)
    last_call_at: datetime | None = None


class AgentProfile(Shape):
    """An agent with what it used and where mail reaches it."""

    agent: Agent
    usage: AgentUsage
    email: str | None
