"""Agents as events and the audit log tell of them."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import JsonValue

from conclave.agents.repository import AgentRepository
from conclave.db import Transaction
from conclave.events import EventLog
from schema.domain.agents import AT_REST, Agent, AgentStatus
from schema.domain.events import EventDraft, EventType

_UNTOLD = {
    "id", "status", "tasks_completed", "tasks_failed", "task_seconds", "last_active_at",
    "created_at", "updated_at",
}  # fmt: skip


def agent_event(kind: EventType, agent: Agent, changed: Sequence[str] = ()) -> EventDraft:
    """It was made, changed or deleted."""
    data: dict[str, JsonValue] = {
        "agent_id": agent.id,
        "slug": agent.slug,
        "name": agent.name,
        "role": agent.role,
        "status": agent.status.value,
    }
    if changed:
        data["changed"] = list(changed)
    return EventDraft(stream=_stream(agent), type=kind, data=data, agent_id=agent.id)


async def tell_status(
    tx: Transaction,
    agents: AgentRepository,
    events: EventLog,
    agent: Agent,
    previous: AgentStatus,
    reason: str | None = None,
) -> None:
    """Tell that its status changed; nothing where it is told as it was. The agent is locked."""
    if agent.status.told is previous.told:
        return
    data: dict[str, JsonValue] = {
        "id": agent.id,
        "slug": agent.slug,
        "name": agent.name,
        "status": agent.status.told.value,
        "previous_status": previous.told.value,
    }
    if reason is not None:
        data["reason"] = reason
    await agents.set_told(tx, agent.id, agent.status)
    draft = EventDraft(
        stream=_stream(agent), type=EventType.AGENT_STATUS, data=data, agent_id=agent.id
    )
    await events.append(tx, [draft])


def audited(agent: Agent | None) -> dict[str, JsonValue]:
    """Return what people set, as the audit log compares it."""
    if agent is None:
        return {}
    state = agent.status.value if agent.status in AT_REST else "at work"
    return {**agent.model_dump(mode="json", exclude=_UNTOLD), "state": state}


def _stream(agent: Agent) -> str:
    return f"agent-{agent.id}"
