"""Telling the workflows of checkouts and removals that a project has changed.

Every call may be lost: the outbox row committed before it is delivered again by the relay.
"""

from __future__ import annotations

from contextlib import suppress

from conclave.db import Database, Transaction
from conclave.errands import Errands
from conclave.errors import ExecutionClosed
from conclave.mailbox import Mailbox
from conclave.ports.engine import WorkflowEngine
from conclave.wakeups import WakeUps
from conclave.workspaces.errors import ProjectNotFound
from conclave.workspaces.repository import ProjectRepository
from schema.domain.projects import CheckoutStatus
from schema.payloads.checkout import CheckoutInput, RemovalInput

TARGET_KIND = "project"
_UNDER_WAY = (CheckoutStatus.PENDING, CheckoutStatus.CLONING)


class ProjectDispatch:
    """Starts checkouts and removals, and stops checkouts that nobody wants any more."""

    def __init__(
        self, db: Database, mailbox: Mailbox, errands: Errands, engine: WorkflowEngine
    ) -> None:
        self._db = db
        self._mailbox = mailbox
        self._wakes = WakeUps(mailbox, errands)
        self._engine = engine
        self._projects = ProjectRepository()

    async def owe(self, tx: Transaction, project_id: int) -> None:
        """Store what is owed to the engine with the change, and deliver it after the commit."""
        await self._wakes.owe(tx, TARGET_KIND, project_id, self.deliver)

    async def deliver(self, project_id: int) -> None:
        """Bring the engine to what the record says, and strike what is owed.

        Raises `Unavailable`.
        """
        async with self._db.transaction() as tx:
            last_run = await self._projects.last_run(tx, project_id)
            project = await self._projects.get(tx, project_id)
            owed = await self._mailbox.owed(tx, TARGET_KIND, project_id)
        if last_run is None:
            raise ProjectNotFound(project_id)
        current = CheckoutInput(project_id=project_id, run=last_run)
        if project is None:
            await self._engine.cancel_checkout(current)
            with suppress(ExecutionClosed):  # they are removed already
                await self._engine.start_removal(RemovalInput(project_id=project_id))
        elif project.checkout_status in _UNDER_WAY:
            if last_run > 1:
                earlier = current.model_copy(update={"run": last_run - 1})
                await self._engine.cancel_checkout(earlier)
            with suppress(ExecutionClosed):  # it is over, which the record is about to say
                await self._engine.start_checkout(current)
        async with self._db.transaction() as tx:
            await self._mailbox.delivered(tx, owed)
