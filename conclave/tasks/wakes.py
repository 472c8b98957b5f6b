"""Telling what the record says of tasks: their workflows, and the dispatcher.

Every call here may be lost: the outbox row committed before it is delivered again by the relay.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import cast

from conclave.db import Database, Transaction
from conclave.errands import Errands
from conclave.errors import ConclaveError, Conflict, ExecutionClosed, Unavailable
from conclave.failpoints import Failpoint, reach
from conclave.logging import get_logger
from conclave.mailbox import Mailbox
from conclave.ports.engine import WorkflowEngine
from conclave.ports.settings import NamedSettings
from conclave.tasks.dispatch_repository import DispatchRepository, Standing
from conclave.tasks.errors import TaskNotFound
from conclave.tasks.hot_path import TaskHotPath
from conclave.wakeups import Deliver, WakeUps
from schema.domain.inbox import InboxItem
from schema.domain.tasks import RUNNING, TaskStatus
from schema.payloads.tasks import TaskInput

TASK_TARGET = "task"
DISPATCH_TARGET = "task_dispatch"
_MOST_STEPS = 50
_USUAL_STEPS = 25
_STARTS_AT_ONCE = 16
_log = get_logger(__name__)

HandOut = Callable[[], Awaitable[None]]


class TaskWakes:
    """Starts, wakes and stops the workflows of tasks."""

    def __init__(
        self,
        db: Database,
        mailbox: Mailbox,
        errands: Errands,
        engine: WorkflowEngine,
        settings: NamedSettings,
    ) -> None:
        self._db = db
        self._mailbox = mailbox
        self._errands = errands
        self._wakes = WakeUps(mailbox, errands)
        self._engine = engine
        self._settings = settings
        self._tasks = DispatchRepository()
        self._hot = TaskHotPath()
        self.hand_out: HandOut | None = None
        """The dispatcher's pass; set by the composition root."""
        self.waiters: dict[str, Deliver] = {}
        """Who delivers the wake-ups of those that wait for tasks; set by the composition root."""
        self._is_handing_out = False
        self._is_wanted_again = False

    async def owe(self, tx: Transaction, task_id: int) -> None:
        """Store a wake-up of a task's workflow with the change it tells of."""
        await self._wakes.owe(tx, TASK_TARGET, task_id, self.deliver)

    def tell(self, tx: Transaction, kind: str, waiter_id: int) -> None:
        """Deliver at once, when it is committed, a wake-up that is owed to who waits for a task."""
        deliver = self.waiters.get(kind)
        if deliver is not None:
            self._wakes.tell(tx, kind, waiter_id, deliver)

    async def owe_starts(self, tx: Transaction, starts: Sequence[TaskInput]) -> None:
        """Store the starts of tasks that were given slots, and make them once committed."""
        owed = await self._hot.owe_starts(tx, TASK_TARGET, [one.task_id for one in starts])
        tx.after_commit.append(lambda: self._errands.run(self._start_all(starts, owed)))

    async def _start_all(self, starts: Sequence[TaskInput], owed: Sequence[int]) -> None:
        """Start many; where one cannot be, the relay starts them all again, which does no harm."""
        gate = asyncio.Semaphore(_STARTS_AT_ONCE)

        async def start(asked: TaskInput) -> None:
            async with gate:
                reach(Failpoint.BEFORE_START, "task", asked.task_id)
                with suppress(ExecutionClosed):
                    await self._engine.start_task(asked, wake=False)

        try:
            await asyncio.gather(*(start(asked) for asked in starts))
            async with self._db.autocommit() as tx:
                await self._mailbox.delivered(tx, owed)
        except Unavailable as error:
            _log.warning("starts are left to the relay", tasks=len(starts), error=error.code)

    async def soon(self, tx: Transaction) -> None:
        """Let the dispatcher look once this is committed."""
        await self._mailbox.owe(tx, DISPATCH_TARGET, 0)
        if self._hand_out_soon not in tx.after_commit:
            tx.after_commit.append(self._hand_out_soon)

    def _hand_out_soon(self) -> None:
        if self._is_handing_out:
            self._is_wanted_again = True
        elif self.hand_out is not None:
            self._is_handing_out = True
            self._errands.run(self._hand_out(self.hand_out))

    async def _hand_out(self, hand_out: HandOut) -> None:
        """Pass after pass while there were commits meanwhile: many changes share one."""
        try:
            self._is_wanted_again = True
            while self._is_wanted_again:
                self._is_wanted_again = False
                await hand_out()
        except ConclaveError as error:
            _log.warning("dispatch is left to the relay", error=error.code)
        finally:
            self._is_handing_out = False

    def tell_amended(self, task_id: int, run: int, item: InboxItem) -> None:
        """Hand a change to the run at once; what is lost is left to the relay."""
        self._errands.run(self._tell_amended(task_id, run, item))

    async def _tell_amended(self, task_id: int, run: int, item: InboxItem) -> None:
        try:
            await self._engine.amend_task(task_id, run, item)
        except (Unavailable, ExecutionClosed, Conflict) as error:
            _log.info("change is left to the relay", task_id=task_id, error=error.code)

    async def deliver(self, task_id: int) -> None:
        """Start, wake or stop the run, as the record says, and strike what is owed.

        Raises `Unavailable`.
        """
        async with self._db.transaction() as tx:
            task = await self._tasks.standing(tx, task_id)
            owed = await self._mailbox.owed(tx, TASK_TARGET, task_id)
        if task is None:
            raise TaskNotFound(task_id)
        for run in task.stop_runs:
            await self._engine.cancel_task(task_id, run)
        if task.is_started and task.agent_id is not None:
            await self._start(task)
        async with self._db.transaction() as tx:
            for run in task.stop_runs:
                await self._tasks.stopped(tx, task_id, run)
            await self._mailbox.delivered(tx, owed)

    async def _start(self, task: Standing) -> None:
        is_new = task.status is TaskStatus.ASSIGNED
        if not (is_new or task.status in RUNNING or task.status is TaskStatus.PENDING):
            return
        asked = await self.input_of(task)
        if is_new:
            reach(Failpoint.BEFORE_START, "task", task.id)
        with suppress(ExecutionClosed):  # that run is over: what it left is in the record
            await self._engine.start_task(asked, wake=not is_new)

    async def input_of(self, task: Standing) -> TaskInput:
        """Return what the run of a task that has a slot starts with."""
        assert task.agent_id is not None
        name = "general.task_timeout_minutes"
        minutes = cast("int", (await self._settings.current(name))[name].value)
        began = task.started_at or datetime.now(UTC)
        steps = task.metadata.get("max_iterations")
        patience = task.metadata.get("tool_timeout")
        return TaskInput(
            task_id=task.id,
            run=task.workflow_run,
            conversation_id=task.conversation_id,
            execution=task.execution,
            agent_id=task.agent_id,
            label=f"{task.agent_slug} asks {task.model}",
            rank=task.rank,
            turn=task.turn_count,
            turn_timeout=task.turn_timeout,
            expires_at=began + timedelta(minutes=minutes),
            max_steps=min(steps, _MOST_STEPS) if isinstance(steps, int) else _USUAL_STEPS,
            tool_timeout=patience if isinstance(patience, int) else None,
            version=2,
        )
