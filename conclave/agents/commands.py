"""What can be asked of agents, in the core's own shapes."""

from __future__ import annotations

from decimal import Decimal
from enum import StrEnum
from typing import Literal

from pydantic import Field, JsonValue

from schema.domain.agents import (
    AgentConfig,
    AgentProvider,
    AgentStatus,
    ModelRef,
    Personality,
    RiskRules,
)
from schema.domain.base import Shape
from schema.domain.providers import ProviderName


class BusyPolicy(StrEnum):
    """What deleting an agent does while a turn of it runs."""

    REFUSE = "refuse_if_busy"
    STOP = "stop_what_runs"


class AgentDraft(Shape):
    """A new agent but for its model. A slug that is given is taken as it is, else one is made of
    the name."""

    name: str
    slug: str | None = None
    description: str | None = None
    role: str | None = None
    system_prompt: str | None = None
    personality: Personality = Personality()
    background: dict[str, JsonValue] = Field(default_factory=dict[str, JsonValue])
    config: AgentConfig = AgentConfig()
    max_concurrent_tasks: int = 3
    worker_id: int | None = None
    tags: list[str] = Field(default_factory=list[str])
    risk_rules: RiskRules = RiskRules()
    fallback_models: list[ModelRef] = Field(default_factory=list[ModelRef])
    daily_budget_usd: Decimal = Decimal(0)
    max_tokens_per_task: int = 0
    memory_limit_mb: int = 0


class CreateAgent(AgentDraft):
    """A new agent."""

    provider: AgentProvider
    model: str


class EnrollAgent(AgentDraft):
    """A new agent that may leave its model open: what is None is the platform's default."""

    provider: AgentProvider | None = None
    model: str | None = None


class UpdateAgent(Shape):
    """Changes to an agent: only fields that were set count.

    `personality`, `config` and `risk_rules` are merged key by key, the rest is replaced.
    """

    name: str = ""
    description: str | None = None
    role: str | None = None
    provider: AgentProvider = ProviderName.ANTHROPIC
    model: str = ""
    system_prompt: str | None = None
    personality: dict[str, JsonValue] = Field(default_factory=dict[str, JsonValue])
    background: dict[str, JsonValue] = Field(default_factory=dict[str, JsonValue])
    config: dict[str, JsonValue] = Field(default_factory=dict[str, JsonValue])
    max_concurrent_tasks: int = 3
    worker_id: int | None = None
    tags: list[str] = Field(default_factory=list[str])
    risk_rules: dict[str, JsonValue] = Field(default_factory=dict[str, JsonValue])
    fallback_models: list[ModelRef] = Field(default_factory=list[ModelRef])
    daily_budget_usd: Decimal = Decimal(0)
    max_tokens_per_task: int = 0
    memory_limit_mb: int = 0
    is_active: bool = True
    """False stops it; true starts one that was stopped, and leaves others as they are."""
    status: Literal[AgentStatus.PAUSED, AgentStatus.MAINTENANCE] = AgentStatus.PAUSED

    @property
    def stops_work(self) -> bool:
        """Whether what the agent does now is to end."""
        given = self.model_fields_set
        return "status" in given or ("is_active" in given and not self.is_active)


class AgentOrder(StrEnum):
    """How agents are listed; ties by id."""

    OLDEST_FIRST = "oldest_first"
    NEWEST_FIRST = "newest_first"
    MOST_COMPLETED_FIRST = "most_completed_first"


class AgentFilter(Shape):
    """Which agents are listed, and in which order; None: any."""

    statuses: frozenset[AgentStatus] | None = None
    role: str | None = None
    order: AgentOrder = AgentOrder.OLDEST_FIRST
