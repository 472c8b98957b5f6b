"""One turn of one agent: model calls and tool calls until it has nothing left to do.

Not a workflow of its own: conversations, chats and tasks run it inside theirs. Every step is one
model call as an activity. The calls a reply asks for are judged with its commit; here those that
need a yes wait for their approval (a child workflow, `approval-9`), and the rest run side by
side, before the next step reads their answers from the record.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime, timedelta

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from schema.domain.approvals import ApprovalStatus
    from schema.domain.tools import ExecutionStatus, ToolVerdict
    from schema.payloads import names
    from schema.payloads.agent_turn import CallOutcome, CompleteInput, CompleteResult
    from schema.payloads.approvals import ApprovalInput, ApprovalResult
    from schema.payloads.tools import ExecuteInput, ExecuteResult, ToolRef

from workflows import policies

MAX_STEPS = 25
"""A turn's model calls; the last one is offered no tools, so that it ends in words."""
MAX_DENIED_ROUNDS = 3


async def speak(
    call: CompleteInput,
    summary: str,
    *,
    max_steps: int = MAX_STEPS,
    tool_timeout: int | None = None,
    until: datetime | None = None,
    is_interrupted: Callable[[], bool] = lambda: False,
) -> CompleteResult:
    """Run the turn and return its last step's result.

    `tool_timeout`: seconds a tool may take at most. `is_interrupted` is asked between two steps:
    something was said that the next turn has to hear. Such a turn returns with `tools`: they were
    run, and the next turn reads their answers. Raises ActivityError where the model cannot answer
    or `until` has come, TimeoutError where it comes while people are asked; cancelling it cancels
    what runs, approvals too.
    """
    denied_rounds = 0
    result = await _complete(names.COMPLETE_ACTIVITY, call, summary, until)
    while result.outcome is CallOutcome.SPOKEN and result.tool_calls:
        tools = [_bounded(tool, tool_timeout) for tool in result.tools]
        ended = await asyncio.gather(*(_use(tool, until) for tool in tools))
        all_denied = all(status is ExecutionStatus.DENIED for status in ended)
        denied_rounds = denied_rounds + 1 if all_denied else 0
        if denied_rounds >= MAX_DENIED_ROUNDS:
            return result.model_copy(update={"outcome": CallOutcome.TOOLS_DENIED})
        if is_interrupted():
            return result
        step = call.step + 1
        call = call.model_copy(update={"step": step, "offer_tools": step < max_steps})
        result = await _complete(
            names.COMPLETE_ACTIVITY, call, f"{summary}, step {call.step}", until
        )
    return result


def _bounded(tool: ToolRef, timeout: int | None) -> ToolRef:
    if timeout is None:
        return tool
    return tool.model_copy(update={"timeout": min(tool.timeout, timeout)})


def _left(until: datetime | None) -> timedelta | None:
    return None if until is None else max(until - workflow.now(), timedelta(milliseconds=1))


async def compact(call: CompleteInput, summary: str) -> CompleteResult:
    """Compact the conversation between two turns (step 0); raises as `speak` does."""
    return await _complete(names.COMPACT_ACTIVITY, call, summary, None)


async def _complete(
    activity: str, call: CompleteInput, summary: str, until: datetime | None
) -> CompleteResult:
    """Make a call again while it was made to compact: each is one model call, with its time."""
    while True:
        result = await _call(activity, call, summary, until)
        if result.outcome is not CallOutcome.COMPACTED:
            return result


async def _call(
    activity: str, call: CompleteInput, summary: str, until: datetime | None
) -> CompleteResult:
    return await workflow.execute_activity(
        activity,
        call,
        result_type=CompleteResult,
        schedule_to_close_timeout=_left(until),
        start_to_close_timeout=timedelta(seconds=call.timeout) + policies.MODEL_CALL_MARGIN,
        heartbeat_timeout=policies.HEARTBEAT_TIMEOUT,
        retry_policy=policies.MODEL_CALL_RETRY,
        cancellation_type=workflow.ActivityCancellationType.TRY_CANCEL,
        summary=summary,
    )


async def _use(tool: ToolRef, until: datetime | None) -> ExecutionStatus:
    """See a call through: what was refused is over already, what waits is asked for first."""
    if tool.verdict is ToolVerdict.DENY:
        return ExecutionStatus.DENIED
    if tool.verdict is ToolVerdict.ASK:
        verdict = await (_verdict(tool) if until is None else _verdict_by(tool, until))
        if verdict is not ApprovalStatus.APPROVED:
            return ExecutionStatus.DENIED
    ran = await workflow.execute_activity(
        names.EXECUTE_TOOL_ACTIVITY,
        ExecuteInput(execution_id=tool.execution_id, timeout=tool.timeout, is_quick=tool.is_quick),
        result_type=ExecuteResult,
        task_queue=names.CONCLAVE_QUEUE if tool.is_quick else names.TOOLS_QUEUE,
        schedule_to_close_timeout=_left(until),
        start_to_close_timeout=timedelta(seconds=tool.timeout) + policies.TOOL_MARGIN,
        heartbeat_timeout=policies.HEARTBEAT_TIMEOUT,
        retry_policy=policies.TOOL_RETRY,
        cancellation_type=workflow.ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
        summary=tool.label,
    )
    return ran.status


async def _verdict_by(tool: ToolRef, until: datetime) -> ApprovalStatus:
    """Raises TimeoutError, with the approval cancelled, when it is late."""
    asked = asyncio.create_task(_verdict(tool))
    try:
        await workflow.wait_condition(asked.done, timeout=_left(until))
        return asked.result()
    finally:
        if not asked.done():
            asked.cancel()
            await asyncio.gather(asked, return_exceptions=True)


async def _verdict(tool: ToolRef) -> ApprovalStatus:
    if tool.approval_id is None or tool.expires_at is None:
        raise ValueError("a call that is asked for has an approval")
    ended = await workflow.execute_child_workflow(
        names.APPROVAL_WORKFLOW,
        ApprovalInput(approval_id=tool.approval_id, expires_at=tool.expires_at, action=tool.label),
        id=names.approval_workflow_id(tool.approval_id),
        result_type=ApprovalResult,
        parent_close_policy=workflow.ParentClosePolicy.REQUEST_CANCEL,
        cancellation_type=workflow.ChildWorkflowCancellationType.WAIT_CANCELLATION_COMPLETED,
        static_summary=f"approval {tool.approval_id}: {tool.label}",
    )
    return ended.status
