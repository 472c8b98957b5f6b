"""Type names as they stand in histories: renaming a class cannot orphan a running workflow."""

from __future__ import annotations

from typing import Final

CONVERSATION_WORKFLOW: Final = "Conversation"
UPKEEP_WORKFLOW: Final = "Upkeep"

ADVANCE_UPDATE: Final = "advance"
WAKE_SIGNAL: Final = "wake"

COMPLETE_ACTIVITY: Final = "llm.complete"
LOOK_ACTIVITY: Final = "conversations.look"
SETTLE_ACTIVITY: Final = "conversations.settle"
CHORE_ACTIVITY: Final = "upkeep.chore"

CONCLAVE_QUEUE: Final = "conclave"

AGENT_ID_ATTRIBUTE: Final = "AgentId"
CIRCLE_NAME_ATTRIBUTE: Final = "CircleName"
KIND_ATTRIBUTE: Final = "Kind"
STATUS_ATTRIBUTE: Final = "Status"
COST_USD_ATTRIBUTE: Final = "CostUsd"


def conversation_workflow_id(conversation_id: int, execution: int) -> str:
    """Return the id of a conversation's run: `conversation-42`, then `conversation-42-2`."""
    base = f"conversation-{conversation_id}"
    return base if execution == 1 else f"{base}-{execution}"
