"""Approvals: asking, listing, deciding.

A decision is one atomic step of the record: of two deciders one is told that it was decided. The
workflow (`approval-9`) waits for it, for its time to be over, or for the time after which a
second group is asked, and is only woken.

What is locked, in this order: the conversation and the task that ask, the approval, the tool call.
"""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import JsonValue

from conclave.approvals.asker_repository import AskerRepository
from conclave.approvals.asking import Asking, adjusted, user_of
from conclave.approvals.commands import ApprovalFilter, Decide
from conclave.approvals.dispatch import ApprovalDispatch
from conclave.approvals.errors import AlreadyVoted, ApprovalNotFound, ApprovalNotPending
from conclave.approvals.rendering import approval_event, voted_event
from conclave.approvals.repository import ApprovalRepository
from conclave.approvals.rules import agreed_arguments, is_person, require_decider
from conclave.auditing import AuditLog
from conclave.db import Database, Transaction
from conclave.errors import Invalid
from conclave.events import EventLog
from conclave.ports.identity import SecurityPolicy
from conclave.ports.notifications import Notifier
from conclave.ports.tasks import TaskDesk
from conclave.ports.tools import ApprovalSubject
from schema.domain.approvals import Approval, ApprovalRequest, ApprovalStatus
from schema.domain.events import EventType
from schema.domain.identity import Principal, PrincipalKind


class ApprovalService:
    """The use cases of approvals."""

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
        self._askers = AskerRepository()
        self._asking = Asking()
        self.subjects: dict[str, ApprovalSubject] = {}
        """By type: what hears of the end of its approvals, and judges edited arguments.

        This and the next two are set once all are built: each needs the other."""
        self.tasks: TaskDesk | None = None

    @property
    def notifier(self) -> Notifier | None:
        """Who tells people that they are asked."""
        return self._asking.notifier

    @notifier.setter
    def notifier(self, notifier: Notifier) -> None:
        self._asking.notifier = notifier

    async def request(self, tx: Transaction, wanted: ApprovalRequest) -> Approval:
        """Store a pending approval within the asking transaction, and tell of it.

        The caller has locked the conversation and the task that ask, in this order.
        """
        wanted = adjusted(wanted, (await self._security.current()).approvals)
        expires_in = wanted.expires_in_seconds
        assert expires_in is not None, "adjusted"
        escalates_in = wanted.escalate_after_seconds
        approval = await self._approvals.insert(tx, wanted, expires_in, escalates_in)
        await self._asking.tell(tx, approval, escalated=False)
        await self._changed(tx, approval)
        await self._events.append(tx, [approval_event(approval, EventType.APPROVAL_REQUESTED)])
        return approval

    async def ask(self, tx: Transaction, wanted: ApprovalRequest) -> Approval:
        """Request an approval that has a workflow of its own, which the outbox starts."""
        approval = await self.request(tx, wanted)
        await self._dispatch.owe(tx, approval.id)
        return approval

    async def create(self, wanted: ApprovalRequest) -> Approval:
        """Ask for something of one's own; its workflow is started by the outbox.

        Raises `SubjectNotFound` for a task or an agent that does not exist, `TaskHasEnded`,
        `Missing` for unknown approvers, `Invalid` for those that cannot decide and for details
        that do not fit the type.
        """
        async with self._db.transaction() as tx:
            subject = self.subjects.get(wanted.type)
            if subject is not None:
                wanted = await subject.asked(tx, wanted)
            await self._asking.require_subjects(tx, wanted)
            await self._asking.require_deciders(tx, wanted)
            approval = await self.ask(tx, wanted)
            await self._audit.record(tx, "approval_created", "approval", approval.id)
        return approval

    async def get(self, approval_id: int, principal: Principal) -> Approval:
        """Return one the caller may see; one whose time is over shows as expired."""
        async with self._db.transaction() as tx:
            return await self._in_time(tx, await self._visible(tx, approval_id, principal))

    async def list(
        self, wanted: ApprovalFilter, principal: Principal, limit: int, offset: int
    ) -> tuple[Sequence[Approval], int]:
        """Return a page, newest first; private ones of other people are left out."""
        owner = None if principal.is_admin else principal.key
        user_id = principal.user_id if is_person(principal) else None
        seen = wanted.model_copy(update={"owner": owner, "user_id": user_id})
        async with self._db.transaction() as tx:
            return await self._approvals.list(tx, seen, limit, offset)

    async def decide(self, approval_id: int, command: Decide, principal: Principal) -> Approval:
        """Say yes or no; return the approval, which is pending where more have to say yes.

        Raises `ApprovalNotFound`, `ApprovalNotPending`, `MayNotDecide`, `AlreadyVoted`,
        `ArgumentsEdited`, and `Invalid` for edited arguments that do not fit.
        """
        async with self._db.transaction() as tx:
            seen = await self._visible(tx, approval_id, principal)
            approval = await self._in_time(tx, await self._locked(tx, seen))
            was_pending = approval.is_pending
            if was_pending:
                require_decider(approval, principal, await self._askers_of(tx, approval))
                if any(vote.user_id == principal.user_id for vote in approval.votes):
                    raise AlreadyVoted(approval)
                if command.approve:
                    await self._approve(tx, approval, command, principal)
                else:
                    await self._reject(tx, approval, command, principal)
                approval = await self._get(tx, approval_id)
        if not was_pending:
            raise ApprovalNotPending(approval)
        return approval

    async def _approve(
        self, tx: Transaction, approval: Approval, command: Decide, principal: Principal
    ) -> None:
        subject = self.subjects.get(approval.type)
        if command.arguments is not None:
            if subject is None:
                raise Invalid("arguments", "There are no arguments to edit.")
            await subject.check_arguments(tx, approval, command.arguments)
        arguments, starts_again = agreed_arguments(approval, command.arguments)
        if starts_again:
            await self._approvals.void_votes(tx, approval.id)
        count = 1 if starts_again else await self._count(tx, approval) + 1
        await self._note_vote(tx, approval, command, principal)
        is_enough = count >= approval.required_approvals
        if is_enough:
            # One alone cannot let the tool pass for good where several have to agree.
            if command.always and approval.required_approvals == 1 and subject is not None:
                await subject.grant(tx, approval, principal.key)
            said = _said(command, principal)
            said |= {"approvals_count": count, "arguments": arguments}
            await self._end(tx, approval, ApprovalStatus.APPROVED, said)
        else:
            await self._approvals.count(tx, approval.id, count, arguments)
            await self._events.append(tx, [voted_event(await self._get(tx, approval.id))])
        await self._audit.record(
            tx,
            "approval_approved" if is_enough else "approval_voted",
            "approval",
            approval.id,
            changes={"edited": command.arguments is not None},
            principal=principal,
        )

    async def _count(self, tx: Transaction, approval: Approval) -> int:
        """Return how many have said yes and might still say it: accounts are closed meanwhile."""
        if not approval.votes:
            return approval.approvals_count
        voters = [vote.user_id for vote in approval.votes]
        return len(voters) - await self._askers.fallen(tx, voters, approval.risk_level)

    async def _reject(
        self, tx: Transaction, approval: Approval, command: Decide, principal: Principal
    ) -> None:
        """One no is enough, however many would have had to say yes."""
        await self._note_vote(tx, approval, command, principal)
        await self._end(tx, approval, ApprovalStatus.REJECTED, _said(command, principal))
        await self._audit.record(
            tx, "approval_rejected", "approval", approval.id, principal=principal
        )

    async def _note_vote(
        self, tx: Transaction, approval: Approval, command: Decide, principal: Principal
    ) -> None:
        if is_person(principal) and principal.user_id is not None:
            note = command.note if command.approve else command.reason
            await self._approvals.vote(
                tx, approval.id, principal.user_id, approve=command.approve, note=note
            )

    async def look(self, approval_id: int) -> Approval:
        """Expire or escalate it where that is due. Called by its workflow; safe to repeat."""
        async with self._db.transaction() as tx:
            return await self._in_time(tx, await self._get(tx, approval_id))

    async def cancel(self, approval_id: int) -> Approval:
        """End it because what asked for it has ended. Safe to repeat."""
        async with self._db.transaction() as tx:
            approval = await self._locked(tx, await self._get(tx, approval_id))
            if approval.is_pending:
                await self._end(tx, approval, ApprovalStatus.CANCELLED, {})
            return await self._get(tx, approval_id)

    async def cancel_of(
        self,
        tx: Transaction,
        *,
        task_id: int | None = None,
        conversation_id: int | None = None,
        agent_id: int | None = None,
    ) -> int:
        """End what is pending of any of these within the transaction that ends them.

        The caller has locked the conversation and the task. Returns how many there were.
        """
        cancelled = 0
        for approval_id in await self._approvals.pending_of(
            tx, task_id=task_id, conversation_id=conversation_id, agent_id=agent_id
        ):
            approval = await self._locked(tx, await self._get(tx, approval_id))
            if not approval.is_pending:
                continue
            # A task that ends does not go back to work because nothing of it is pending.
            is_ending = task_id is not None and approval.task_id == task_id
            await self._end(tx, approval, ApprovalStatus.CANCELLED, {}, task_hears=not is_ending)
            cancelled += 1
        return cancelled

    async def _askers_of(self, tx: Transaction, approval: Approval) -> set[int] | None:
        """Return who asked, themselves or through an agent; None without four eyes."""
        if not approval.four_eyes and not (await self._security.current()).approvals.four_eyes:
            return None
        keys = await self._askers.askers(tx, approval.conversation_id, approval.task_id)
        users = {user_of(key) for key in (*keys, approval.owner)} | {approval.requested_by}
        return {user_id for user_id in users if user_id is not None}

    async def _in_time(self, tx: Transaction, approval: Approval) -> Approval:
        """Return it as it is now: expired where its time is over, else escalated where due."""
        if not approval.is_pending or not any(await self._approvals.overdue(tx, approval.id)):
            return approval
        approval = await self._locked(tx, approval)
        expires, escalates = await self._approvals.overdue(tx, approval.id)
        if expires:
            await self._end(tx, approval, ApprovalStatus.EXPIRED, {})
        elif escalates:
            await self._approvals.escalate(tx, approval.id)
            escalated = await self._get(tx, approval.id)
            await self._asking.tell(tx, escalated, escalated=True)
            event = approval_event(escalated, EventType.APPROVAL_ESCALATED)
            await self._events.append(tx, [event])
        return await self._get(tx, approval.id)

    async def _end(
        self,
        tx: Transaction,
        approval: Approval,
        status: ApprovalStatus,
        values: dict[str, JsonValue],
        *,
        task_hears: bool = True,
    ) -> None:
        if not await self._approvals.decide(tx, approval.id, status, values):
            raise ApprovalNotPending(await self._get(tx, approval.id))
        ended = await self._get(tx, approval.id)
        subject = self.subjects.get(ended.type)
        if subject is not None:
            await subject.decided(tx, ended)
        if task_hears:
            await self._changed(tx, ended)
        await self._events.append(tx, [approval_event(ended, EventType.APPROVAL_DECIDED)])
        await self._dispatch.owe(tx, approval.id)

    async def _changed(self, tx: Transaction, approval: Approval) -> None:
        """Let the task go to review, or back to work."""
        if self.tasks is not None and approval.task_id is not None:
            await self.tasks.approvals_changed(tx, approval.task_id)

    async def _visible(self, tx: Transaction, approval_id: int, principal: Principal) -> Approval:
        approval = await self._get(tx, approval_id)
        # A signal names nobody, so it is no stranger: whether signals decide is asked before.
        sees_all = principal.is_admin or principal.kind is PrincipalKind.TEMPORAL
        is_asked = is_person(principal) and principal.user_id in approval.named
        if approval.owner not in (None, principal.key) and not sees_all and not is_asked:
            raise ApprovalNotFound(approval_id)
        return approval

    async def _locked(self, tx: Transaction, approval: Approval) -> Approval:
        """Lock what asked and the approval; return it as it is once nobody else changes it."""
        await self._askers.lock_work(tx, approval.conversation_id, approval.task_id)
        await self._approvals.lock(tx, approval.id)
        return await self._get(tx, approval.id)

    async def _get(self, tx: Transaction, approval_id: int) -> Approval:
        approval = await self._approvals.get(tx, approval_id)
        if approval is None:
            raise ApprovalNotFound(approval_id)
        return approval


def _said(command: Decide, principal: Principal) -> dict[str, JsonValue]:
    return {
        "decided_by": principal.user_id,
        "decided_by_key": principal.key,
        "decision_note": command.note,
        "rejection_reason": None if command.approve else command.reason,
    }
