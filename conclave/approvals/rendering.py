"""Approvals as events and notifications tell of them."""

from __future__ import annotations

from schema.domain.approvals import Approval, RiskLevel
from schema.domain.events import EventDraft, EventType
from schema.domain.notifications import Severity

_LONGEST_TITLE = 200
_SEVERE = frozenset({RiskLevel.HIGH, RiskLevel.CRITICAL})


def approval_event(approval: Approval, type_: EventType) -> EventDraft:
    """Something happened to an approval."""
    return EventDraft(
        stream=f"approval-{approval.id}",
        type=type_,
        data={
            "id": approval.id,
            "type": approval.type,
            "action": approval.action,
            "risk_level": approval.risk_level.value,
            "status": approval.status.value,
            "task_id": approval.task_id,
            "agent_id": approval.agent_id,
            "conversation_id": approval.conversation_id,
            "expires_at": approval.expires_at.isoformat(),
            "decided_by": approval.decided_by,
            "approvals_count": approval.approvals_count,
            "required_approvals": approval.required_approvals,
        },
        conversation_id=approval.conversation_id,
        agent_id=approval.agent_id,
        owner=approval.owner,
    )


def voted_event(approval: Approval) -> EventDraft:
    """Somebody said yes, which is not enough; with the edited arguments that were meant."""
    event = approval_event(approval, EventType.APPROVAL_VOTED)
    return event.model_copy(update={"data": {**event.data, "arguments": approval.arguments}})


def title(approval: Approval, *, escalated: bool) -> str:
    """Return the one line of a notification."""
    said = "Nobody has decided yet" if escalated else "Waits for an approval"
    return f"{said}: {approval.action}"[:_LONGEST_TITLE]


def severity(approval: Approval, *, escalated: bool) -> Severity:
    """Return how much it matters that somebody looks."""
    return Severity.WARNING if escalated or approval.risk_level in _SEVERE else Severity.INFO
