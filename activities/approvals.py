"""Activities on approvals. Each may run twice: a decision and an escalation count once."""

from __future__ import annotations

from temporalio import activity

from activities.failures import translated
from conclave.approvals.commands import Decide
from conclave.approvals.errors import ApprovalNotPending, MayNotDecide
from conclave.approvals.service import ApprovalService
from conclave.logging import get_logger
from schema.domain.approvals import Approval
from schema.domain.identity import TEMPORAL_PRINCIPAL
from schema.payloads import names
from schema.payloads.approvals import ApprovalResult, DecideInput, LookAtApproval

_log = get_logger(__name__)


class ApprovalActivities:
    """Short ones, without heartbeats; `policies.RECORD_TIMEOUT` bounds them.

    `takes_signals` says whether a signal, which names nobody, may decide.
    """

    def __init__(self, approvals: ApprovalService, *, takes_signals: bool) -> None:
        self._approvals = approvals
        self._takes_signals = takes_signals

    @activity.defn(name=names.LOOK_AT_APPROVAL_ACTIVITY)
    async def look(self, asked: LookAtApproval) -> ApprovalResult:
        """Say how an approval stands; expire, escalate or cancel it where that is due."""
        with translated():
            act = self._approvals.cancel if asked.cancel else self._approvals.look
            return _result(await act(asked.approval_id))

    @activity.defn(name=names.DECIDE_APPROVAL_ACTIVITY)
    async def decide(self, asked: DecideInput) -> ApprovalResult:
        """Bring a signal to the record; one that may not decide changes nothing."""
        with translated():
            if self._takes_signals:
                command = Decide(approve=asked.approve, reason=asked.reason)
                try:
                    await self._approvals.decide(asked.approval_id, command, TEMPORAL_PRINCIPAL)
                except (ApprovalNotPending, MayNotDecide) as error:
                    _log.warning(
                        "signal decides nothing", approval_id=asked.approval_id, why=error.message
                    )
            else:
                _log.warning("signals do not decide here", approval_id=asked.approval_id)
            return _result(await self._approvals.look(asked.approval_id))


def _result(approval: Approval) -> ApprovalResult:
    waits = approval.is_pending and approval.escalated_at is None
    return ApprovalResult(
        approval_id=approval.id,
        status=approval.status,
        escalates_at=approval.escalates_at if waits else None,
    )
