"""Approvals: asking, listing, deciding.

A decision is one atomic step of the record: of two deciders one is told that it was decided. The
workflow (`approval-9`) waits for it, or for its time to be over, and is only woken.
"""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import JsonValue

from conclave.approvals.commands import ApprovalFilter, Decide
from conclave.approvals.dispatch import ApprovalDispatch
from conclave.approvals.errors import (
    ApprovalNotFound,
    ApprovalNotPending,
    MayNotDecide,
    SubjectNotFound,
)
from conclave.approvals.repository import ApprovalRepository
from conclave.auditing import AuditLog
from conclave.db import Database, Transaction
from conclave.events import EventLog
from conclave.ports.identity import SecurityPolicy
from conclave.ports.tools import ApprovalSubject
from schema.domain.approvals import Approval, ApprovalRequest, ApprovalStatus, RiskLevel
from schema.domain.events import EventDraft, EventType
from schema.domain.identity import Principal, PrincipalKind, Role


class ApprovalService:
    """The use cases of approvals; `subject` hears of the end of those of tool calls."""

    def __init__(
        self,
        db: Database,
        events: EventLog,
        audit: AuditLog,
        dispatch: ApprovalDispatch,
        security: SecurityPolicy,
    ) -> None:
        self._db = db
        self._events = events
        self._audit = audit
        self._dispatch = dispatch
        self._security = security
        self._approvals = ApprovalRepository()
        self.subject: ApprovalSubject | None = None
        """Set once both are built: each needs the other."""

    async def request(self, tx: Transaction, wanted: ApprovalRequest) -> Approval:
        """Store a pending approval within the asking transaction, and tell of it."""
        seconds = wanted.expires_in_seconds
        if seconds is None:
            seconds = (await self._security.current()).approvals.default_expiry_seconds
        approval = await self._approvals.insert(tx, wanted, seconds)
        await self._events.append(tx, [_event(approval, EventType.APPROVAL_REQUESTED)])
        return approval

    async def create(self, wanted: ApprovalRequest) -> Approval:
        """Ask for something of one's own; its workflow is started by the outbox.

        Raises `SubjectNotFound` for a task or an agent that does not exist.
        """
        if wanted.task_id is not None:
            raise SubjectNotFound("task_id", f"Task {wanted.task_id} not found")
        async with self._db.transaction() as tx:
            if wanted.agent_id is not None and not await self._approvals.has_agent(
                tx, wanted.agent_id
            ):
                raise SubjectNotFound("agent_id", f"Agent {wanted.agent_id} not found")
            approval = await self.request(tx, wanted)
            await self._audit.record(tx, "approval_created", "approval", approval.id)
            await self._dispatch.owe(tx, approval.id)
        return approval

    async def get(self, approval_id: int, principal: Principal) -> Approval:
        """Return one the caller may see; one whose time is over shows as expired."""
        async with self._db.transaction() as tx:
            approval = await self._visible(tx, approval_id, principal)
            if await self._is_overdue(tx, approval):
                await self._end(tx, approval, ApprovalStatus.EXPIRED, {})
                return await self._get(tx, approval_id)
            return approval

    async def list(
        self, wanted: ApprovalFilter, principal: Principal, limit: int, offset: int
    ) -> tuple[Sequence[Approval], int]:
        """Return a page, newest first; private ones of other people are left out."""
        owner = None if principal.is_admin else principal.key
        async with self._db.transaction() as tx:
            return await self._approvals.list(
                tx, wanted.model_copy(update={"owner": owner}), limit, offset
            )

    async def decide(self, approval_id: int, command: Decide, principal: Principal) -> Approval:
        """Say yes or no.

        Raises `ApprovalNotFound`, `ApprovalNotPending`, `MayNotDecide`, and `Invalid` for edited
        arguments that do not fit.
        """
        async with self._db.transaction() as tx:
            approval = await self._visible(tx, approval_id, principal, lock=True)
            overdue = await self._is_overdue(tx, approval)
            if overdue:
                await self._end(tx, approval, ApprovalStatus.EXPIRED, {})
            else:
                await self._may_decide(approval, principal)
                await self._decide(tx, approval, command, principal)
            approval = await self._get(tx, approval_id)
        if overdue:
            raise ApprovalNotPending(approval)
        return approval

    async def _decide(
        self, tx: Transaction, approval: Approval, command: Decide, principal: Principal
    ) -> None:
        if approval.status is not ApprovalStatus.PENDING:
            raise ApprovalNotPending(approval)
        if command.arguments is not None and self.subject is not None:
            await self.subject.check_arguments(tx, approval, command.arguments)
        values: dict[str, JsonValue] = {
            "decided_by": principal.user_id,
            "decided_by_key": principal.key,
            "decision_note": command.note,
            "rejection_reason": None if command.approve else command.reason,
            "arguments": command.arguments if command.approve else None,
        }
        status = ApprovalStatus.APPROVED if command.approve else ApprovalStatus.REJECTED
        if command.approve and command.always and self.subject is not None:
            await self.subject.grant(tx, approval, principal.key)
        await self._end(tx, approval, status, values)
        action = "approval_approved" if command.approve else "approval_rejected"
        edited = command.arguments is not None
        await self._audit.record(
            tx, action, "approval", approval.id, changes={"edited": edited}, principal=principal
        )

    async def expire(self, approval_id: int) -> Approval:
        """End it if its time is over. Called by its workflow; safe to repeat."""
        async with self._db.transaction() as tx:
            approval = await self._get(tx, approval_id, lock=True)
            if await self._is_overdue(tx, approval):
                await self._end(tx, approval, ApprovalStatus.EXPIRED, {})
            return await self._get(tx, approval_id)

    async def cancel(self, approval_id: int) -> Approval:
        """End it because what asked for it has ended. Safe to repeat."""
        async with self._db.transaction() as tx:
            approval = await self._get(tx, approval_id, lock=True)
            if approval.status is ApprovalStatus.PENDING:
                await self._end(tx, approval, ApprovalStatus.CANCELLED, {})
            return await self._get(tx, approval_id)

    async def _may_decide(self, approval: Approval, principal: Principal) -> None:
        """Raise `MayNotDecide`: platform.md, section 22, and what a signal may never decide."""
        if not principal.has(Role.OPERATOR):
            raise MayNotDecide("Operators and administrators decide approvals.")
        if approval.risk_level is RiskLevel.CRITICAL and not principal.is_admin:
            raise MayNotDecide("A critical approval needs an administrator.")
        if not (await self._security.current()).approvals.four_eyes:
            return
        if principal.kind is PrincipalKind.TEMPORAL:
            raise MayNotDecide("Four eyes are asked for: a signal names nobody.")
        if principal.user_id is not None and approval.requested_by == principal.user_id:
            raise MayNotDecide("Four eyes are asked for: somebody else has to decide.")

    async def _is_overdue(self, tx: Transaction, approval: Approval) -> bool:
        is_pending = approval.status is ApprovalStatus.PENDING
        return is_pending and await self._approvals.is_due(tx, approval.id)

    async def _end(
        self,
        tx: Transaction,
        approval: Approval,
        status: ApprovalStatus,
        values: dict[str, JsonValue],
    ) -> None:
        if not await self._approvals.decide(tx, approval.id, status, values):
            raise ApprovalNotPending(await self._get(tx, approval.id))
        ended = await self._get(tx, approval.id)
        if self.subject is not None:
            await self.subject.decided(tx, ended)
        await self._events.append(tx, [_event(ended, EventType.APPROVAL_DECIDED)])
        await self._dispatch.owe(tx, approval.id)

    async def _visible(
        self, tx: Transaction, approval_id: int, principal: Principal, *, lock: bool = False
    ) -> Approval:
        approval = await self._get(tx, approval_id, lock=lock)
        # A signal names nobody, so it is no stranger: whether signals decide is asked before.
        sees_all = principal.is_admin or principal.kind is PrincipalKind.TEMPORAL
        if approval.owner not in (None, principal.key) and not sees_all:
            raise ApprovalNotFound(approval_id)
        return approval

    async def _get(self, tx: Transaction, approval_id: int, *, lock: bool = False) -> Approval:
        approval = await self._approvals.get(tx, approval_id, lock=lock)
        if approval is None:
            raise ApprovalNotFound(approval_id)
        return approval


def _event(approval: Approval, type_: EventType) -> EventDraft:
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
        },
        conversation_id=approval.conversation_id,
        agent_id=approval.agent_id,
        owner=approval.owner,
    )
