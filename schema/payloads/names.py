"""Type names as they stand in histories: renaming a class cannot orphan a running workflow."""

from __future__ import annotations

from typing import Final

CONVERSATION_WORKFLOW: Final = "Conversation"
APPROVAL_WORKFLOW: Final = "Approval"
UPKEEP_WORKFLOW: Final = "Upkeep"
CHECKOUT_WORKFLOW: Final = "Checkout"
REMOVAL_WORKFLOW: Final = "Removal"
TASK_WORKFLOW: Final = "Task"
PIPELINE_WORKFLOW: Final = "Pipeline"
TRIGGER_WORKFLOW: Final = "Trigger"
TRIGGER_CHECK_WORKFLOW: Final = "TriggerCheck"

ADVANCE_UPDATE: Final = "advance"
WAKE_SIGNAL: Final = "wake"

COMPLETE_ACTIVITY: Final = "llm.complete"
LOOK_ACTIVITY: Final = "conversations.look"
SETTLE_ACTIVITY: Final = "conversations.settle"
COMPACT_ACTIVITY: Final = "conversations.compact"
FINISH_ACTIVITY: Final = "conversations.finish"
EXECUTE_TOOL_ACTIVITY: Final = "tools.execute"
LOOK_AT_APPROVAL_ACTIVITY: Final = "approvals.look"
DECIDE_APPROVAL_ACTIVITY: Final = "approvals.decide"

APPROVE_SIGNAL: Final = "approve"
REJECT_SIGNAL: Final = "reject"
CHORE_ACTIVITY: Final = "upkeep.chore"
CLONE_ACTIVITY: Final = "git.clone"
SETTLE_CHECKOUT_ACTIVITY: Final = "git.settle"
REMOVE_FILES_ACTIVITY: Final = "git.remove"
CLAIM_FIRING_ACTIVITY: Final = "triggers.claim"
ACT_ACTIVITY: Final = "triggers.act"
SETTLE_FIRING_ACTIVITY: Final = "triggers.settle"
CHECK_THRESHOLDS_ACTIVITY: Final = "triggers.check"

LOOK_AT_TASK_ACTIVITY: Final = "tasks.look"
FAIL_TASK_ACTIVITY: Final = "tasks.fail"
REQUEUE_TASK_ACTIVITY: Final = "tasks.requeue"
CLOSE_TASK_ACTIVITY: Final = "tasks.close"
AMEND_UPDATE: Final = "amend"
BEGIN_RUN_ACTIVITY: Final = "pipelines.begin"
LOOK_AT_RUN_ACTIVITY: Final = "pipelines.look"
START_STEPS_ACTIVITY: Final = "pipelines.start"
FINISH_RUN_ACTIVITY: Final = "pipelines.finish"

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


def checkout_workflow_id(project_id: int, run: int) -> str:
    """Return the id of a checkout: `project-7-checkout`, a second try `project-7-checkout-2`."""
    base = f"project-{project_id}-checkout"
    return base if run == 1 else f"{base}-{run}"


def removal_workflow_id(project_id: int) -> str:
    """Return the id of the run that removes a deleted project's files: `project-7-removal`."""
    return f"project-{project_id}-removal"


def task_workflow_id(task_id: int, run: int) -> str:
    """Return the id of a task's run: `task-7`, a deliberate second one `task-7-2`."""
    base = f"task-{task_id}"
    return base if run == 1 else f"{base}-{run}"


def pipeline_workflow_id(run_id: int) -> str:
    """Return the id of a pipeline's run: `pipeline-run-5`."""
    return f"pipeline-run-{run_id}"


def trigger_schedule_id(trigger_id: int) -> str:
    """Return the id of a trigger's schedule, which begins its runs' ids: `trigger-3`."""
    return f"trigger-{trigger_id}"


def trigger_workflow_id(trigger_id: int, firing_key: str) -> str:
    """Return the id of a stored firing's run: `trigger-3-event-55`."""
    return f"trigger-{trigger_id}-{firing_key}"


def trigger_checks_id(every_seconds: int) -> str:
    """Return the id of the schedule that looks at thresholds so often: `trigger-checks-60`."""
    return f"trigger-checks-{every_seconds}"
