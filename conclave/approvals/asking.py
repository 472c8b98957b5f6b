"""Asking for approvals: what holds for a request, and who is told of it.

Who asks cannot loosen the security settings: the stricter of both holds.
"""

from __future__ import annotations

from conclave.approvals.asker_repository import DECIDING, AskerRepository, Decider
from conclave.approvals.errors import SubjectNotFound, TaskHasEnded
from conclave.approvals.rendering import severity, title
from conclave.db import Transaction
from conclave.errors import Invalid, Missing
from conclave.ports.notifications import Notifier
from schema.domain.approvals import (
    Approval,
    ApprovalRequest,
    ApproverRole,
    Approvers,
    RiskLevel,
)
from schema.domain.events import EventType
from schema.domain.security import ApprovalPolicy
from schema.domain.tasks import ENDED


class Asking:
    """Judges requests. `notifier` is set once there is one."""

    def __init__(self) -> None:
        self._askers = AskerRepository()
        self.notifier: Notifier | None = None

    async def require_subjects(self, tx: Transaction, wanted: ApprovalRequest) -> None:
        """Hold what is asked about until the transaction ends.

        Raises `SubjectNotFound` for a task or an agent that does not exist, `TaskHasEnded`.
        """
        # The agent first, as whoever deletes it: only deleting it waits for this lock.
        if wanted.agent_id is not None and not await self._askers.hold_agent(tx, wanted.agent_id):
            raise SubjectNotFound("agent_id", f"Agent {wanted.agent_id} not found")
        if wanted.task_id is not None:
            status = await self._askers.lock_work(tx, None, wanted.task_id)
            if status is None:
                raise SubjectNotFound("task_id", f"Task {wanted.task_id} not found")
            if status in ENDED:
                raise TaskHasEnded(wanted.task_id)

    async def require_deciders(self, tx: Transaction, wanted: ApprovalRequest) -> None:
        """Raise `Missing` for users that do not exist, `Invalid` for groups that cannot decide."""
        await self._require_group(tx, wanted, "approvers", wanted.approvers)
        if wanted.escalate_to is not None:
            await self._require_group(tx, wanted, "escalate_to", wanted.escalate_to)
        named = wanted.approvers
        if isinstance(named, list) and len(named) < wanted.required_approvals:
            raise Invalid(
                "required_approvals",
                f"{wanted.required_approvals} approvals need as many approvers;"
                f" there are {len(named)}",
            )

    async def _require_group(
        self, tx: Transaction, wanted: ApprovalRequest, field: str, group: Approvers
    ) -> None:
        if not isinstance(group, list):
            return
        found = await self._askers.deciders(tx, group)
        for user_id in group:
            if user_id not in found:
                raise Missing(field, f"User {user_id} not found")
            if not _can_decide(found[user_id], wanted):
                raise Invalid(field, f"User {user_id} may not decide this approval")

    async def tell(self, tx: Transaction, approval: Approval, *, escalated: bool) -> None:
        """Notify those who are asked: at first the approvers, later the second group."""
        if self.notifier is None:
            return
        group = approval.escalate_to if escalated else approval.approvers
        event = EventType.APPROVAL_ESCALATED if escalated else EventType.APPROVAL_REQUESTED
        await self.notifier.notify(
            tx,
            title=title(approval, escalated=escalated),
            message=approval.description or approval.action,
            severity=severity(approval, escalated=escalated),
            event_type=event.value,
            user_ids=await self._audience(tx, approval, group or ApproverRole.OPERATORS),
            metadata={
                "approval_id": approval.id,
                "type": approval.type,
                "risk_level": approval.risk_level.value,
                "task_id": approval.task_id,
                "agent_id": approval.agent_id,
                "expires_at": approval.expires_at.isoformat(),
            },
        )

    async def _audience(
        self, tx: Transaction, approval: Approval, group: Approvers
    ) -> list[int] | None:
        """Return whom to tell, None for every administrator and operator.

        A private chat's is told to its owner and to administrators: nobody else may see it.
        """
        if isinstance(group, list):
            return group
        if group is ApproverRole.OPERATORS and approval.owner is None:
            return None
        admins = await self._askers.admins(tx)
        owner = user_of(approval.owner)
        if group is ApproverRole.ADMINS or owner is None:
            return admins
        return sorted({*admins, owner})


def adjusted(wanted: ApprovalRequest, policy: ApprovalPolicy) -> ApprovalRequest:
    """Return a request with what the security settings say of what it leaves open."""
    is_critical = wanted.risk_level is RiskLevel.CRITICAL
    required = max(wanted.required_approvals, policy.required_approvals if is_critical else 1)
    after = wanted.escalate_after_seconds
    if after is None:
        after = policy.escalate_after_seconds or None
    if after is None and wanted.escalate_to is not None:
        raise Invalid("escalate_after_seconds", "escalate_to needs a time after which")
    second = None if after is None else wanted.escalate_to or policy.escalate_to
    return wanted.model_copy(
        update={
            "required_approvals": required,
            "expires_in_seconds": wanted.expires_in_seconds or policy.default_expiry_seconds,
            "escalate_after_seconds": after,
            "escalate_to": second,
        }
    )


def user_of(key: str | None) -> int | None:
    """Return the user that a principal's key names, None where it names nobody."""
    kind, _, user_id = (key or "").partition(":")
    return int(user_id) if kind == "user" and user_id.isdecimal() else None


def _can_decide(decider: Decider, wanted: ApprovalRequest) -> bool:
    roles = DECIDING[wanted.risk_level is RiskLevel.CRITICAL]
    return decider.is_active and decider.role in roles
