"""Agents as this dialect writes them."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Literal, TypeAlias, cast

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    Field,
    JsonValue,
    StringConstraints,
    field_validator,
)

from api.platform.schemas.fields import Id, Name, Timestamp, refuse_null
from conclave.agents.commands import AgentFilter, AgentOrder, EnrollAgent, UpdateAgent
from conclave.agents.slugs import SLUG_PATTERN
from schema.domain.agents import Agent, AgentProfile, AgentStatus, ModelRef, RiskRules
from schema.domain.permissions import Autonomy
from schema.domain.providers import ProviderName

DEFAULT_ROLE = "general"
_MOST_INT = 2**31 - 1
_PROVIDERS = (*(name.value for name in ProviderName), "demo")


def _known(provider: str) -> str:
    if provider not in _PROVIDERS:
        raise ValueError(f"there is no such provider: {', '.join(_PROVIDERS)}")
    return provider


def _named(tools: object) -> object:
    """Read an array of names as the object it is short for."""
    if not isinstance(tools, list):
        return tools
    names = cast("list[object]", tools)
    if not all(isinstance(name, str) for name in names):
        raise ValueError("must be an object of booleans or an array of names")
    return dict.fromkeys(cast("list[str]", names), True)


def _distinct(texts: list[str]) -> list[str]:
    return list(dict.fromkeys(texts))


LongText: TypeAlias = Annotated[str, StringConstraints(max_length=100_000)]
Role: TypeAlias = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1, max_length=100)
]
Provider: TypeAlias = Annotated[
    str, AfterValidator(_known), Field(json_schema_extra={"enum": list[JsonValue](_PROVIDERS)})
]
ModelName: TypeAlias = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1, max_length=255)
]
Slug: TypeAlias = Annotated[str, StringConstraints(pattern=SLUG_PATTERN)]
ToolName: TypeAlias = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1, max_length=128)
]
ToolNames: TypeAlias = Annotated[list[ToolName], Field(max_length=500), AfterValidator(_distinct)]
EnabledTools: TypeAlias = Annotated[
    dict[ToolName, Annotated[bool, Field(strict=True)]],
    Field(max_length=500),
    BeforeValidator(_named, json_schema_input_type=dict[str, bool] | list[str]),
]
Tags: TypeAlias = Annotated[
    list[Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=64)]],
    Field(max_length=100),
    AfterValidator(_distinct),
]
Usd: TypeAlias = Annotated[Decimal, Field(ge=0, lt=10**9, allow_inf_nan=False)]
Count: TypeAlias = Annotated[int, Field(ge=0, le=_MOST_INT)]
ShownStatus: TypeAlias = Literal["idle", "busy", "error", "offline", "paused", "maintenance"]


class ModelIn(BaseModel):
    """A model to ask while the agent's own cannot answer."""

    provider: Provider
    model: ModelName


class RiskRulesIn(BaseModel):
    """What the agent may not do unasked; what is left out stays, or is the default."""

    max_file_delete_mb: Annotated[float, Field(ge=0, le=1_000_000)] = 100
    require_approval_for: ToolNames = []
    block_external_api: bool = False


class _Fields(BaseModel):
    """What can be said of an agent when it is made and later; None: not sent."""

    description: LongText | None = None
    role: Role | None = None
    llm_provider: Provider | None = None
    llm_model: ModelName | None = None
    system_prompt: LongText | None = None
    enabled_tools: EnabledTools | None = None
    worker_id: Id | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    max_tokens: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    max_concurrent_tasks: Annotated[int, Field(ge=1, le=100)] | None = None
    tags: Tags | None = None
    autonomy_level: Autonomy | None = None
    tool_blacklist: ToolNames | None = None
    risk_rules: RiskRulesIn | None = None
    daily_budget_usd: Usd | None = None
    max_tokens_per_task: Count | None = None
    memory_limit_mb: Count | None = None
    fallback_models: Annotated[list[ModelIn], Field(max_length=10)] | None = None

    @field_validator(
        "role", "llm_provider", "llm_model", "enabled_tools", "temperature", "max_tokens",
        "max_concurrent_tasks", "tags", "autonomy_level", "tool_blacklist", "risk_rules",
        "daily_budget_usd", "max_tokens_per_task", "memory_limit_mb", "fallback_models",
        mode="before",
    )  # fmt: skip
    @classmethod
    def _not_null(cls, value: object) -> object:
        return refuse_null(value)

    def _config(self) -> dict[str, JsonValue]:
        """Return what was sent of how its model and its tools are used."""
        found = self.model_dump(
            mode="json",
            include={"temperature", "max_tokens", "autonomy_level", "tool_blacklist"},
            exclude_unset=True,
        )
        if self.enabled_tools is not None:
            tools = self.enabled_tools.items()
            found["tools"] = [name for name, is_on in tools if is_on]
            found["disabled_tools"] = [name for name, is_on in tools if not is_on]
        return found

    def _columns(self) -> dict[str, object]:
        """Return all else that was sent, in the core's words."""
        sent = self.model_dump(
            exclude_unset=True,
            exclude={
                "enabled_tools", "temperature", "max_tokens", "autonomy_level", "tool_blacklist",
            },
        )  # fmt: skip
        renamed = {"llm_provider": "provider", "llm_model": "model"}
        return {renamed.get(name, name): value for name, value in sent.items()}


class AgentIn(_Fields):
    """A new agent."""

    name: Name
    slug: Slug | None = None

    _slug_not_null = field_validator("slug", mode="before")(refuse_null)

    def to_command(self) -> EnrollAgent:
        """Return it in the core's words."""
        given = {"role": DEFAULT_ROLE, **self._columns(), "config": self._config()}
        return EnrollAgent.model_validate(given)


class AgentPatch(_Fields):
    """Changes: what is left out stays; `risk_rules` are merged key by key."""

    name: Name | None = None
    is_active: bool | None = None
    status: Literal["paused", "maintenance"] | None = None

    _more_not_null = field_validator("name", "is_active", "status", mode="before")(refuse_null)

    def to_command(self) -> UpdateAgent:
        """Return it in the core's words, with only what was sent set."""
        given, config = self._columns(), self._config()
        return UpdateAgent.model_validate(given | ({"config": config} if config else {}))


class AgentQuery(BaseModel):
    """Which agents are listed."""

    status_filter: ShownStatus | None = None
    role: Annotated[str, StringConstraints(max_length=100)] | None = None

    def to_filter(self) -> AgentFilter:
        """Return it in the core's words."""
        statuses = None
        if self.status_filter is not None:
            statuses = frozenset(
                status for status in AgentStatus if status.told.value == self.status_filter
            )
        return AgentFilter(statuses=statuses, role=self.role, order=AgentOrder.NEWEST_FIRST)


class AgentOut(BaseModel):
    """An agent."""

    id: int
    slug: str
    name: str
    description: str | None
    role: str
    status: ShownStatus
    is_active: bool
    llm_provider: str
    llm_model: str
    system_prompt: str | None
    temperature: float
    max_tokens: int
    enabled_tools: dict[str, bool]
    max_concurrent_tasks: int
    worker_id: int | None
    email: str | None
    tags: list[str]
    autonomy_level: Autonomy
    tool_blacklist: list[str]
    risk_rules: RiskRules
    fallback_models: list[ModelRef]
    daily_budget_usd: float
    max_tokens_per_task: int
    memory_limit_mb: int
    tasks_completed: int
    tasks_failed: int
    success_rate: float
    """Percent of the tasks that ended."""
    average_task_duration_seconds: float
    total_tokens_used: int
    total_cost_usd: float
    last_active_at: Timestamp | None
    created_at: Timestamp
    updated_at: Timestamp

    @classmethod
    def from_domain(cls, profile: AgentProfile) -> AgentOut:
        """Return an agent in this dialect's shape."""
        agent, usage = profile.agent, profile.usage
        active = [when for when in (agent.last_active_at, usage.last_call_at) if when is not None]
        return cls.model_validate(
            {
                **agent.model_dump(),
                "role": agent.role or DEFAULT_ROLE,
                "status": agent.status.told.value,
                "is_active": agent.status is not AgentStatus.OFFLINE,
                "llm_provider": agent.provider,
                "llm_model": agent.model,
                "system_prompt": agent.instructions,
                "temperature": agent.config.temperature,
                "max_tokens": agent.config.max_tokens,
                "enabled_tools": _enabled(agent),
                "email": profile.email,
                "autonomy_level": agent.config.autonomy,
                "tool_blacklist": [*agent.config.tool_blacklist],
                "success_rate": agent.success_rate,
                "average_task_duration_seconds": agent.average_task_seconds,
                "total_tokens_used": usage.tokens,
                "total_cost_usd": round(usage.cost_usd, 6),
                "last_active_at": max(active, default=None),
            }
        )


def _enabled(agent: Agent) -> dict[str, bool]:
    config = agent.config
    return {**dict.fromkeys(config.disabled_tools, False), **dict.fromkeys(config.tools, True)}
