"""What changes of an agent make of its row: pure code."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import JsonValue

from conclave.agents.commands import UpdateAgent
from conclave.errors import Invalid, Missing
from conclave.merging import merge
from schema.domain.agents import Agent, AgentConfig, AgentStatus, Personality, RiskRules

AT_WORK = "active"
"""What is stored of an agent that may be given work."""
_PROMPT = "system_prompt"
_MORE_WORK = {"max_concurrent_tasks", "config", "state"}
"""Columns whose change may let an agent take a task it could not take before."""


def column_values(before: Agent, command: UpdateAgent) -> dict[str, object]:
    """Return the columns that change. Raises `Invalid` naming the key, `Missing` for a worker."""
    values: dict[str, object] = command.model_dump(
        mode="json", exclude_unset=True, exclude={"is_active", "status"}
    )
    if values.get("worker_id") is not None:
        refuse_worker(command.worker_id)
    if "personality" in values:
        stored = before.personality.model_dump()
        merged = merge(Personality, stored, command.personality, "personality")
        values["personality"] = merged.model_dump(mode="json")
    if "risk_rules" in values:
        rules = merge(RiskRules, before.risk_rules.model_dump(), command.risk_rules, "risk_rules")
        values["risk_rules"] = rules.model_dump(mode="json")
    config = _config(before, command)
    if config is not None:
        values["config"] = config.model_dump(mode="json")
    if _PROMPT in command.config and _PROMPT not in values:
        values[_PROMPT] = _text(command.config[_PROMPT])
    state = _state(before, command)
    if state is not None:
        values["state"] = state
    return values


def prompt_of(config: AgentConfig) -> str | None:
    """Return the system prompt that a client wrote into the config: it is the agent's."""
    return _text((config.model_extra or {}).get(_PROMPT))


def lets_take_more(values: Mapping[str, object]) -> bool:
    """Whether an agent may take a task now that it could not take before."""
    return bool(_MORE_WORK & values.keys()) and values.get("state", AT_WORK) == AT_WORK


def lets_spend_more(values: Mapping[str, object]) -> bool:
    """Whether a task of the agent that waits for budget may have it now."""
    return bool({"daily_budget_usd", "max_tokens_per_task"} & values.keys())


def refuse_worker(worker_id: int | None) -> None:
    """Raise `Missing` for any worker: no worker nodes are registered yet."""
    if worker_id is not None:
        raise Missing("worker_id", f"Worker {worker_id} not found")


def _config(before: Agent, command: UpdateAgent) -> AgentConfig | None:
    """Return the config as it will be; a prompt that stands there too is kept the same."""
    changes: dict[str, JsonValue] = dict(command.config)
    stored = before.config.model_dump()
    is_changed = "config" in command.model_fields_set
    if _PROMPT in command.model_fields_set and _PROMPT in stored:
        is_changed = True
        if command.system_prompt is None:
            del stored[_PROMPT]
        else:
            changes[_PROMPT] = command.system_prompt
    return merge(AgentConfig, stored, changes, "config") if is_changed else None


def _state(before: Agent, command: UpdateAgent) -> str | None:
    """Return what is stored of its standing; None where that stays."""
    given = command.model_fields_set
    if "status" in given:
        if "is_active" in given and not command.is_active:
            raise Invalid("status", f"an agent that is not active is offline, not {command.status}")
        return command.status.value
    if "is_active" not in given:
        return None
    if not command.is_active:
        return AgentStatus.OFFLINE.value
    return AT_WORK if before.status is AgentStatus.OFFLINE else None


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None
