"""What the task workflow reads from and writes to the record. Each is safe to repeat."""

from __future__ import annotations

from datetime import datetime

from conclave.db import Database, Transaction
from conclave.events import EventLog
from conclave.ports.threads import TaskThreads
from conclave.tasks.endings import TaskEndings, is_retryable
from conclave.tasks.repository import TaskRepository
from conclave.tasks.wakes import TaskWakes
from schema.domain.tasks import Task, TaskErrorType, TaskStatus
from schema.payloads.tasks import (
    AfterFailure,
    CloseTaskInput,
    FailTaskInput,
    FailTaskResult,
    LookAtTaskInput,
    LookAtTaskResult,
    RequeueTaskInput,
)

_ERROR_TYPES = {
    "budget_exhausted": TaskErrorType.BUDGET,
    "credentials_refused": TaskErrorType.AUTH,
    "provider_refused": TaskErrorType.VALIDATION,
    "provider_exhausted": TaskErrorType.PROVIDER,
    "provider_unavailable": TaskErrorType.PROVIDER,
    "provider_timeout": TaskErrorType.PROVIDER,
    "circuit_open": TaskErrorType.PROVIDER,
    "internal_error": TaskErrorType.ERROR,
    "prompt_too_long": TaskErrorType.VALIDATION,
}
"""The core's codes as the contract's reasons; what is not named here stands as it is."""
_AGENT_GONE = "agent_gone"
_WORKING = {TaskStatus.ASSIGNED, TaskStatus.IN_PROGRESS, TaskStatus.REVIEW}


class TaskAttempts:
    """Use cases of the workflow itself."""

    def __init__(
        self,
        db: Database,
        events: EventLog,
        threads: TaskThreads,
        wakes: TaskWakes,
        endings: TaskEndings,
    ) -> None:
        self._db = db
        self._events = events
        self._threads = threads
        self._wakes = wakes
        self._endings = endings
        self._tasks = TaskRepository()

    async def look(self, asked: LookAtTaskInput) -> LookAtTaskResult:
        """Say whether the attempt still has its task, and what was changed."""
        async with self._db.transaction() as tx:
            task = await self._tasks.get(tx, asked.task_id)
            if task is None or not _is_working(task, asked.execution):
                return LookAtTaskResult(is_current=False)
            inbox = await self._threads.waiting(tx, task.conversation_id)
            return LookAtTaskResult(is_current=True, inbox=inbox)

    async def fail(self, asked: FailTaskInput) -> FailTaskResult:
        """Store that an attempt failed, and decide what follows."""
        async with self._db.transaction() as tx:
            task = await self._endings.hold(tx, asked.task_id)
            if task is None:
                return FailTaskResult(then=AfterFailure.OVER)
            if not _is_working(task, asked.execution):
                return _decided_before(task, asked.execution)
            if asked.error_type == _AGENT_GONE:
                await self._give_back(tx, task)
                return FailTaskResult(then=AfterFailure.OVER)
            error_type = _ERROR_TYPES.get(asked.error_type, asked.error_type)
            if error_type == TaskErrorType.BUDGET:
                until = await self._next_period(tx)
                drafts = await self._endings.wait_for_budget(tx, task, asked.reason, until)
                if asked.shortage is not None:
                    await self._endings.ask_for_budget(tx, task, asked.shortage)
                await self._events.append(tx, drafts)
                return FailTaskResult(then=AfterFailure.WAIT, at=until)
            if is_retryable(error_type) and task.retry_count < task.max_retries:
                at, drafts = await self._endings.retry_later(tx, task, error_type, asked.reason)
                await self._events.append(tx, drafts)
                return FailTaskResult(then=AfterFailure.WAIT, at=at)
            drafts, _ = await self._endings.give_up(tx, task, error_type, asked.reason, by_run=True)
            await self._events.append(tx, drafts)
        return FailTaskResult(then=AfterFailure.OVER)

    async def requeue(self, asked: RequeueTaskInput) -> None:
        """Give the slot back: the dispatcher begins the next attempt."""
        async with self._db.transaction() as tx:
            task = await self._endings.hold(tx, asked.task_id)
            if task is None or task.attempt != asked.execution:
                return
            if task.status is not TaskStatus.PENDING:
                return
            await self._tasks.change(
                tx,
                task.id,
                {
                    "is_started": False,
                    "next_attempt_at": None,
                    "pending_reason": None,
                    "status": TaskStatus.PENDING if task.agent_id is None else TaskStatus.ASSIGNED,
                },
            )
            await self._wakes.soon(tx)
            await self._events.append(tx, [await self._endings.updated(tx, task.id, ["status"])])

    async def close(self, asked: CloseTaskInput) -> None:
        """The run was cancelled in Temporal: so is its task, unless the record knew of it."""
        async with self._db.transaction() as tx:
            task = await self._endings.hold(tx, asked.task_id)
            if task is None or task.attempt != asked.execution or task.has_ended:
                return
            if await self._tasks.held_run(tx, task.id) is None:
                return
            drafts = await self._endings.cancel(tx, task, "Cancelled in Temporal")
            await self._events.append(tx, drafts)

    async def _give_back(self, tx: Transaction, task: Task) -> None:
        """Its agent was stopped or deleted as the attempt began: no failure of the task's."""
        agent_id = task.agent_id
        keeps = agent_id is not None and await self._tasks.has_agent(tx, agent_id)
        reason = "Its agent was stopped" if keeps else "Its agent is gone"
        drafts = await self._endings.give_back(
            tx, task, keep_agent=keeps, reason=reason, by_run=True
        )
        await self._events.append(tx, drafts)

    async def _next_period(self, tx: Transaction) -> datetime:
        """Return when the next day of budgets begins: months begin with one too."""
        return await self._tasks.next_day(tx)


def _is_working(task: Task, execution: int) -> bool:
    return task.attempt == execution and task.status in _WORKING


def _decided_before(task: Task, execution: int) -> FailTaskResult:
    """Return what an earlier run of the same activity decided."""
    waits = task.attempt == execution and task.status is TaskStatus.PENDING
    if waits and task.next_attempt_at is not None:
        return FailTaskResult(then=AfterFailure.WAIT, at=task.next_attempt_at)
    return FailTaskResult(then=AfterFailure.OVER)
