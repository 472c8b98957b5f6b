"""The approval: waits for a yes or no, or for its time to be over; asks a second group before.

Started by: the turn that asks for a tool call, as its child; for what people and programs ask
by the API, the API or the relay.
Id: `approval-9`.
Messages: signal `wake` (look at the record: it was decided there), signals `approve` and
`reject` (as typed in Temporal's UI or CLI; they count as the principal `temporal`).
Lifetime: until the record says that it is decided, which may take several people; its own timers
let the record escalate and expire it. Cancelled with what asked for it.
"""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta

from temporalio import workflow
from temporalio.exceptions import ActivityError, is_cancelled_exception

with workflow.unsafe.imports_passed_through():
    from schema.domain.approvals import ApprovalStatus
    from schema.payloads import names
    from schema.payloads.approvals import (
        ApprovalInput,
        ApprovalResult,
        DecideInput,
        DecisionSignal,
        LookAtApproval,
    )
    from schema.payloads.conversations import WakeInput

with workflow.unsafe.sandbox_import_notification_policy(
    workflow.SandboxImportNotificationPolicy.SILENT
):
    from workflows import policies

_GRACE = timedelta(seconds=1)
"""The timer and the record have different clocks: ask a moment after."""


@workflow.defn(name=names.APPROVAL_WORKFLOW)
class ApprovalWorkflow:
    """Waits without costing anything, and brings signals to the record."""

    @workflow.init
    def __init__(self, asked: ApprovalInput) -> None:
        self._asked = asked
        self._signals: list[DecideInput] = []
        self._must_look = True
        self._escalates_at: datetime | None = None

    @workflow.run
    async def run(self, asked: ApprovalInput) -> ApprovalResult:
        """Wait until the record says that it is over."""
        workflow.set_current_details(
            f"Waits for a decision on **{asked.action}**.\n\n- signal `approve` or `reject`\n"
            f"- `POST /api/v1/approvals/{asked.approval_id}/approve`"
        )
        try:
            status = await self._wait()
        except (asyncio.CancelledError, ActivityError) as error:
            if is_cancelled_exception(error):
                await self._look(cancel=True)
            raise
        await workflow.wait_condition(workflow.all_handlers_finished)
        return ApprovalResult(approval_id=asked.approval_id, status=status)

    @workflow.signal(name=names.WAKE_SIGNAL)
    def wake(self, message: WakeInput | None = None) -> None:
        """Look at the record."""
        self._must_look = True

    @workflow.signal(name=names.APPROVE_SIGNAL)
    def approve(self, message: DecisionSignal | None = None) -> None:
        """Say yes."""
        self._decide(True, message)

    @workflow.signal(name=names.REJECT_SIGNAL)
    def reject(self, message: DecisionSignal | None = None) -> None:
        """Say no."""
        self._decide(False, message)

    def _decide(self, approve: bool, message: DecisionSignal | None) -> None:
        self._signals.append(
            DecideInput(
                approval_id=self._asked.approval_id,
                approve=approve,
                reason=None if message is None else message.reason,
            )
        )

    async def _wait(self) -> ApprovalStatus:
        while True:
            if self._signals:
                status = await self._bring(self._signals.pop(0))
            elif self._must_look:
                status = await self._look()
            else:
                await self._sleep()
                continue
            if status is not ApprovalStatus.PENDING:
                return status

    async def _sleep(self) -> None:
        until, summary = self._asked.expires_at, "expires"
        if self._escalates_at is not None and self._escalates_at < until:
            until, summary = self._escalates_at, "escalates"
        left = until - workflow.now() + _GRACE
        try:
            await workflow.wait_condition(
                lambda: self._must_look or bool(self._signals),
                timeout=max(left, _GRACE),
                timeout_summary=summary,
            )
        except TimeoutError:
            self._must_look = True

    async def _look(self, *, cancel: bool = False) -> ApprovalStatus:
        self._must_look = False
        seen = await workflow.execute_activity(
            names.LOOK_AT_APPROVAL_ACTIVITY,
            LookAtApproval(approval_id=self._asked.approval_id, cancel=cancel),
            result_type=ApprovalResult,
            start_to_close_timeout=policies.RECORD_TIMEOUT,
            retry_policy=policies.RECORD_RETRY,
            summary="cancel" if cancel else "look at the record",
        )
        return self._noted(seen)

    async def _bring(self, decision: DecideInput) -> ApprovalStatus:
        brought = await workflow.execute_activity(
            names.DECIDE_APPROVAL_ACTIVITY,
            decision,
            result_type=ApprovalResult,
            start_to_close_timeout=policies.RECORD_TIMEOUT,
            retry_policy=policies.RECORD_RETRY,
            summary="approve" if decision.approve else "reject",
        )
        return self._noted(brought)

    def _noted(self, seen: ApprovalResult) -> ApprovalStatus:
        self._escalates_at = seen.escalates_at
        return seen.status
