"""Tasks that a test ends by hand: rows like the real ones, without anybody who works on them."""

from __future__ import annotations

from sqlalchemy import ColumnElement, func, insert, select, update

from conclave.db import Database, Transaction
from conclave.errands import Errands
from conclave.errors import Conflict, Missing
from conclave.mailbox import Mailbox
from conclave.pipelines.dispatch import RunDispatch
from schema.domain.tasks import NewTask, Task, TaskStatus
from schema.tables.conversations import ConversationRow
from schema.tables.tasks import TaskRow


class FakeTaskDesk:
    """Implements `conclave.ports.tasks.TaskDesk`. `gone_agents` are not known to it."""

    def __init__(self, mailbox: Mailbox, errands: Errands) -> None:
        self._mailbox = mailbox
        self._errands = errands
        self.dispatch: RunDispatch | None = None
        """Set once it is built; None: wake-ups are left to the relay."""
        self.gone_agents: set[int] = set()
        self.refuses: str | None = None

    async def add(self, tx: Transaction, wanted: NewTask) -> Task:
        if self.refuses is not None:
            raise Conflict(self.refuses)
        if wanted.agent_id in self.gone_agents:
            raise Missing("agent_id", f"Agent {wanted.agent_id} not found")
        assert wanted.origin is not None
        known = await self.of_origin(tx, wanted.origin.key)
        if known is not None:
            return known
        conversation = await tx.conn.execute(
            insert(ConversationRow)
            .values(
                kind="task",
                owner="local",
                topic=wanted.title,
                status="pending",
                agent_ids=[],
                turn_strategy="round_robin",
                auto_run=False,
                max_turns=1,
                turn_timeout=60,
            )
            .returning(ConversationRow.id)
        )
        values = wanted.model_dump(mode="json", exclude={"origin", "metadata"})
        added = await tx.conn.execute(
            insert(TaskRow)
            .values(
                **values,
                meta=wanted.metadata,
                conversation_id=conversation.scalar_one(),
                origin_key=wanted.origin.key,
                **wanted.origin.model_dump(exclude={"key"}),
            )
            .returning(TaskRow.id)
        )
        return (await self._tasks(tx, TaskRow.id == added.scalar_one()))[0]

    async def of_origin(self, tx: Transaction, key: str) -> Task | None:
        return next(iter(await self._tasks(tx, TaskRow.origin_key == key)), None)

    async def of_run(self, tx: Transaction, workflow_run_id: int) -> list[Task]:
        return await self._tasks(tx, TaskRow.workflow_run_id == workflow_run_id)

    async def cancel(self, tx: Transaction, task_id: int, reason: str) -> None:
        await self._end(tx, task_id, TaskStatus.CANCELLED, error=reason)

    async def end(
        self,
        db: Database,
        task_id: int,
        status: TaskStatus = TaskStatus.COMPLETED,
        **values: object,
    ) -> None:
        """End a task as an agent would, waking who waits for it."""
        async with db.transaction() as tx:
            await self._end(tx, task_id, status, **values)

    async def _end(
        self, tx: Transaction, task_id: int, status: TaskStatus, **values: object
    ) -> None:
        row = await tx.conn.execute(
            update(TaskRow)
            .where(TaskRow.id == task_id, TaskRow.status.in_(["pending", "in_progress"]))
            .values(status=status.value, completed_at=func.clock_timestamp(), **values)
            .returning(TaskRow.waiter_kind, TaskRow.waiter_id)
        )
        waiter = row.one_or_none()
        if waiter is None:
            return
        await self._mailbox.owe(tx, waiter.waiter_kind, waiter.waiter_id)
        dispatch = self.dispatch
        if dispatch is not None:
            tx.after_commit.append(lambda: self._errands.run(dispatch.deliver(waiter.waiter_id)))

    async def open(self, db: Database) -> list[Task]:
        """Return the tasks that nobody has ended."""
        async with db.transaction() as tx:
            return await self._tasks(tx, TaskRow.status == TaskStatus.PENDING.value)

    async def all(self, db: Database) -> list[Task]:
        """Return every task there ever was."""
        async with db.transaction() as tx:
            return await self._tasks(tx, TaskRow.id > 0)

    async def _tasks(self, tx: Transaction, condition: ColumnElement[bool]) -> list[Task]:
        rows = await tx.conn.execute(
            select(TaskRow.__table__).where(condition).order_by(TaskRow.id)
        )
        more = {"agent_name": None, "attempt": 1, "overdue": False}
        return [Task.model_validate({**row, **more}) for row in rows.mappings()]

    async def release(self, tx: Transaction, agent_id: int, *, keep_agent: bool) -> None: ...

    async def dispatch_soon(self, tx: Transaction) -> None: ...

    async def budget_changed(self, tx: Transaction) -> None: ...

    async def approvals_changed(self, tx: Transaction, task_id: int) -> None: ...
