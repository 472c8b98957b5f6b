"""Tool calls as events tell of them."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import JsonValue

from schema.domain.events import EventDraft, EventType, conversation_stream
from schema.domain.tools import ToolAsker, ToolExecution


def tool_event(asker: ToolAsker, type_: EventType, data: dict[str, JsonValue]) -> EventDraft:
    """Something happened to tool calls of a conversation."""
    return EventDraft(
        stream=conversation_stream(asker.conversation_id),
        type=type_,
        data={"conversation_id": asker.conversation_id, "agent_id": asker.agent_id, **data},
        conversation_id=asker.conversation_id,
        circle_id=asker.circle_id,
        agent_id=asker.agent_id,
        owner=asker.private_owner,
    )


def asked_event(asker: ToolAsker, executions: Sequence[ToolExecution]) -> EventDraft:
    """These calls wait for a yes."""
    calls: list[JsonValue] = [
        {
            "id": execution.tool_use_id,
            "name": execution.tool_name,
            "arguments": execution.arguments,
            "execution_id": execution.id,
            "approval_id": execution.approval_id,
        }
        for execution in executions
    ]
    return tool_event(asker, EventType.TOOL_REQUESTED, {"tool_calls": calls})


def denied_event(asker: ToolAsker, executions: Sequence[ToolExecution], reason: str) -> EventDraft:
    """These calls were refused."""
    calls: list[JsonValue] = [
        {"id": execution.tool_use_id, "name": execution.tool_name, "arguments": execution.arguments}
        for execution in executions
    ]
    return tool_event(asker, EventType.TOOL_DENIED, {"tool_calls": calls, "reason": reason})


def started_event(asker: ToolAsker, execution: ToolExecution) -> EventDraft:
    """A call runs."""
    data: dict[str, JsonValue] = {**_named(execution), "arguments": execution.arguments}
    return tool_event(asker, EventType.TOOL_STARTED, data)


def result_event(asker: ToolAsker, execution: ToolExecution) -> EventDraft:
    """A call is over; what it answered is told with it."""
    return tool_event(
        asker,
        EventType.TOOL_RESULT,
        {
            **_named(execution),
            "content": execution.result or "",
            "is_error": execution.is_error,
            "status": execution.status.value,
        },
    )


def _named(execution: ToolExecution) -> dict[str, JsonValue]:
    return {
        "execution_id": execution.id,
        "tool_use_id": execution.tool_use_id,
        "tool_name": execution.tool_name,
    }
