"""Telling an approval's workflow that the record has changed.

Every call here may be lost: the outbox row that was committed with the change is delivered again
by the relay. The approval of a tool call is run by the turn that asked; one that a person or a
program asked for is started here.
"""

from __future__ import annotations

from conclave.approvals.errors import ApprovalNotFound
from conclave.approvals.repository import ApprovalRepository
from conclave.db import Database, Transaction
from conclave.errands import Errands
from conclave.errors import ExecutionClosed
from conclave.failpoints import Failpoint, reach
from conclave.mailbox import Mailbox
from conclave.ports.engine import WorkflowEngine
from conclave.wakeups import WakeUps
from schema.domain.approvals import ApprovalStatus
from schema.payloads.approvals import ApprovalInput

TARGET_KIND = "approval"


class ApprovalDispatch:
    """Starts and wakes approval workflows."""

    def __init__(
        self, db: Database, mailbox: Mailbox, errands: Errands, engine: WorkflowEngine
    ) -> None:
        self._db = db
        self._mailbox = mailbox
        self._wakes = WakeUps(mailbox, errands)
        self._engine = engine
        self._approvals = ApprovalRepository()

    async def owe(self, tx: Transaction, approval_id: int) -> None:
        """Store a wake-up with the change it tells of, and deliver it once that is committed."""
        await self._wakes.owe(tx, TARGET_KIND, approval_id, self.deliver)

    async def deliver(self, approval_id: int) -> None:
        """Start or wake the run and strike what is owed. Raises `Unavailable`."""
        async with self._db.transaction() as tx:
            approval = await self._approvals.get(tx, approval_id)
            owed = await self._mailbox.owed(tx, TARGET_KIND, approval_id)
        if approval is None:
            raise ApprovalNotFound(approval_id)
        try:
            if approval.status is not ApprovalStatus.PENDING:
                await self._engine.wake_approval(approval_id)
            elif approval.tool_execution_id is None:
                reach(Failpoint.BEFORE_START, "approval", approval_id)
                await self._engine.start_approval(
                    ApprovalInput(
                        approval_id=approval_id,
                        expires_at=approval.expires_at,
                        action=approval.type,
                    )
                )
        except ExecutionClosed:
            pass  # it has ended, or has not begun and will look at the record first
        if owed:
            async with self._db.transaction() as tx:
                await self._mailbox.delivered(tx, owed)
