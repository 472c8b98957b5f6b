"""Type names as they stand in histories: renaming a class cannot orphan a running workflow."""

from __future__ import annotations

from typing import Final

CONVERSATION_WORKFLOW: Final = "Conversation"
APPROVAL_WORKFLOW: Final = "Approval"
UPKEEP_WORKFLOW: Final = "Upkeep"

ADVANCE_UPDATE: Final = "advance"
WAKE_SIGNAL: Final = "wake"

COMPLETE_ACTIVITY: Final = "llm.complete"
LOOK_ACTIVITY: Final = "conversations.look"
SETTLE_ACTIVITY: Final = "conversations.settle"
FINISH_ACTIVITY: Final = "conversations.finish"
EXECUTE_TOOL_ACTIVITY: Final = "tools.execute"
LOOK_AT_APPROVAL_ACTIVITY: Final = "approvals.look"
DECIDE_APPROVAL_ACTIVITY: Final = "approvals.decide"

APPROVE_SIGNAL: Final = "approve"
REJECT_SIGNAL: Final = "reject"
CHORE_ACTIVITY: Final = "upkeep.chore"

CONCLAVE_QUEUE: Final = "conclave"
TOOLS_QUEUE: Final = "tools"

AGENT_ID_ATTRIBUTE: Final = "AgentId"
CIRCLE_NAME_ATTRIBUTE: Final = "CircleName"
KIND_ATTRIBUTE: Final = "Kind"
STATUS_ATTRIBUTE: Final = "Status"
COST_USD_ATTRIBUTE: Final = "CostUsd"


def conversation_workflow_id(conversation_id: int, execution: int) -> str:
    """Return the id of a conversation's run: `conversation-42`, then `conversation-42-2`."""
    base = f"conversation-{conversation_id}"
    return base if execution == 1 else f"{base}-{execution}"


def approval_workflow_id(approval_id: int) -> str:
    """Return the id of an approval's run: `approval-9`."""
    return f"approval-{approval_id}"
