"""One turn of one agent: model calls until it has nothing left to do.

Not a workflow of its own: conversations, chats and tasks run it inside theirs. Every step is one
activity; a step whose reply asks for tools is followed by another.
"""

from __future__ import annotations

from datetime import timedelta

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from schema.payloads import names
    from schema.payloads.agent_turn import CallOutcome, CompleteInput, CompleteResult

from workflows import policies


async def speak(call: CompleteInput, summary: str) -> CompleteResult:
    """Run the turn and return its last step's result.

    Raises ActivityError where the model cannot answer; cancelling it cancels the call.
    """
    result = await _complete(call, summary)
    while result.outcome is CallOutcome.SPOKEN and result.tool_calls:
        call = call.model_copy(update={"step": call.step + 1})
        result = await _complete(call, f"{summary}, step {call.step}")
    return result


async def _complete(call: CompleteInput, summary: str) -> CompleteResult:
    return await workflow.execute_activity(
        names.COMPLETE_ACTIVITY,
        call,
        result_type=CompleteResult,
        start_to_close_timeout=timedelta(seconds=call.timeout) + policies.MODEL_CALL_MARGIN,
        heartbeat_timeout=policies.HEARTBEAT_TIMEOUT,
        retry_policy=policies.MODEL_CALL_RETRY,
        cancellation_type=workflow.ActivityCancellationType.TRY_CANCEL,
        summary=summary,
    )
