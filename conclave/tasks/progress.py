"""What is told of tasks while they are worked on: how far they are, and that they are late."""

from __future__ import annotations

from conclave.db import Database
from conclave.events import EventLog
from conclave.ports.notifications import Notifier
from conclave.tasks.rendering import task_event
from conclave.tasks.repository import TaskRepository
from schema.domain.events import EventType
from schema.domain.notifications import Severity

_AT_ONCE = 50


class TaskProgress:
    """A `ports.tasks.ProgressDesk`."""

    def __init__(self, db: Database, events: EventLog) -> None:
        self._db = db
        self._events = events
        self._tasks = TaskRepository()

    async def report(self, conversation_id: int, percent: int) -> bool:
        """Store how far an agent says it is; False where its task is over."""
        async with self._db.transaction() as tx:
            if not await self._tasks.set_progress(tx, conversation_id, percent):
                return False
            task = await self._tasks.of_conversation(tx, conversation_id)
            if task is not None:
                event = task_event(task, EventType.TASK_UPDATED, changed=["progress_percent"])
                await self._events.append(tx, [event])
        return True


class OverdueTasks:
    """A `Chore`: tells once of each task whose deadline has passed."""

    def __init__(self, db: Database, events: EventLog, notifier: Notifier | None) -> None:
        self._db = db
        self._events = events
        self._notifier = notifier
        self._tasks = TaskRepository()

    async def run(self) -> int:
        """Tell of some of them; return of how many."""
        async with self._db.transaction() as tx:
            late = await self._tasks.overdue(tx, _AT_ONCE)
            for task in late:
                if self._notifier is not None:
                    await self._notifier.notify(
                        tx,
                        title=f"Task {task.id} is overdue",
                        message=task.title,
                        severity=Severity.WARNING,
                        event_type=EventType.TASK_UPDATED,
                        user_ids=None if task.assigned_by is None else [task.assigned_by],
                        metadata={"task_id": task.id},
                    )
            await self._events.append(
                tx,
                [task_event(task, EventType.TASK_UPDATED, changed=["overdue"]) for task in late],
            )
        return len(late)
