"""A firing of a trigger, and the look at thresholds.

`Trigger` runs one firing. Started by the trigger's Temporal Schedule (`trigger-3-<nominal time>`)
or, for a firing that was stored with what caused it, by the dispatch or the relay
(`trigger-3-event-55`). Messages: none. Lifetime: seconds, or as long as the database or the
workers are away. The first activity claims the firing's row; the second does what the trigger is
for and ends the row; a third is there for what cannot be done.

`TriggerCheck` looks at the thresholds of one rhythm. Started by the schedule of that rhythm
(`trigger-checks-60-<nominal time>`). Lifetime: one activity.
"""

from __future__ import annotations

import asyncio
from datetime import datetime

from temporalio import workflow
from temporalio.common import SearchAttributeKey
from temporalio.exceptions import ActivityError, ApplicationError, is_cancelled_exception

with workflow.unsafe.imports_passed_through():
    from schema.payloads import names
    from schema.payloads.triggers import (
        ActInput,
        CheckInput,
        CheckResult,
        ClaimInput,
        ClaimResult,
        FiringOutcome,
        FiringResult,
        SettleInput,
        TriggerInput,
    )

# Reloaded in the sandbox as this file is, so that its restrictions hold in it too.
with workflow.unsafe.sandbox_import_notification_policy(
    workflow.SandboxImportNotificationPolicy.SILENT
):
    from workflows import policies

_SCHEDULED_AT = SearchAttributeKey.for_datetime("TemporalScheduledStartTime")


@workflow.defn(name=names.TRIGGER_WORKFLOW)
class TriggerWorkflow:
    """Carries one firing out."""

    @workflow.run
    async def run(self, asked: TriggerInput) -> FiringResult:
        """Claim, act, and say in the record how it ended."""
        claimed = await workflow.execute_activity(
            names.CLAIM_FIRING_ACTIVITY,
            ClaimInput(trigger_id=asked.trigger_id, run_id=asked.run_id, nominal=_nominal(asked)),
            result_type=ClaimResult,
            start_to_close_timeout=policies.RECORD_TIMEOUT,
            retry_policy=policies.RECORD_RETRY,
            summary="claim",
        )
        if claimed.run_id is None:
            return FiringResult(outcome=FiringOutcome.NOTHING)
        try:
            return await _act(claimed.run_id, calls_out=claimed.calls_out)
        except (asyncio.CancelledError, ActivityError) as error:
            if is_cancelled_exception(error):
                await _settle(claimed.run_id, "Cancelled")
                raise
            return await _settle(claimed.run_id, _reason(error))


@workflow.defn(name=names.TRIGGER_CHECK_WORKFLOW)
class TriggerCheckWorkflow:
    """Looks at the thresholds of one rhythm."""

    @workflow.run
    async def run(self, asked: CheckInput) -> CheckResult:
        """Look once; what a database that is away leaves out, the next look sees."""
        return await workflow.execute_activity(
            names.CHECK_THRESHOLDS_ACTIVITY,
            asked,
            result_type=CheckResult,
            start_to_close_timeout=policies.CHORE_TIMEOUT,
            schedule_to_close_timeout=policies.CHORE_PATIENCE,
            retry_policy=policies.RECORD_RETRY,
            summary=f"thresholds of every {asked.every_seconds} s",
        )


async def _act(run_id: int, *, calls_out: bool) -> FiringResult:
    return await workflow.execute_activity(
        names.ACT_ACTIVITY,
        ActInput(run_id=run_id),
        result_type=FiringResult,
        start_to_close_timeout=policies.FIRING_TIMEOUT,
        # Only what waits for somebody else's server is worth a heartbeat.
        heartbeat_timeout=policies.HEARTBEAT_TIMEOUT if calls_out else None,
        retry_policy=policies.RECORD_RETRY,
        cancellation_type=workflow.ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
        summary="act",
    )


async def _settle(run_id: int, reason: str) -> FiringResult:
    return await workflow.execute_activity(
        names.SETTLE_FIRING_ACTIVITY,
        SettleInput(run_id=run_id, reason=reason),
        result_type=FiringResult,
        start_to_close_timeout=policies.RECORD_TIMEOUT,
        retry_policy=policies.RECORD_RETRY,
        summary="settle as failed",
    )


def _nominal(asked: TriggerInput) -> datetime | None:
    """Return the time a schedule meant, jitter left out: it stands in the id it gave this run."""
    if asked.run_id is not None:
        return None
    told = workflow.info().workflow_id.removeprefix(f"trigger-{asked.trigger_id}-")
    try:
        return datetime.fromisoformat(told.replace("Z", "+00:00"))
    except ValueError:
        return workflow.info().typed_search_attributes.get(_SCHEDULED_AT)


def _reason(error: BaseException) -> str:
    """Return the public sentence of a failed activity."""
    cause = error.cause if isinstance(error, ActivityError) else None
    return cause.message if isinstance(cause, ApplicationError) else "It took too long"
