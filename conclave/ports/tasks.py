"""What other parts of the core ask of tasks, inside their own transactions."""

from __future__ import annotations

from typing import Protocol

from conclave.db import Transaction
from schema.domain.tasks import NewTask, Task


class TaskDesk(Protocol):
    """Makes, finds and stops tasks."""

    async def add(self, tx: Transaction, wanted: NewTask) -> Task:
        """Store a task, or return the one its origin's key stands for.

        It is dispatched once the transaction is committed. When it has ended, the waiter that
        its origin names is owed a wake-up in the ending transaction. Raises `Missing` (404,
        `details.field`) for an agent that does not exist.
        """
        ...

    async def of_origin(self, tx: Transaction, key: str) -> Task | None:
        """Return the task an origin's key stands for."""
        ...

    async def of_run(self, tx: Transaction, workflow_run_id: int) -> list[Task]:
        """Return the tasks of a pipeline's run, by id."""
        ...

    async def cancel(self, tx: Transaction, task_id: int, reason: str) -> None:
        """Cancel a task and stop what runs of it; one that has ended is left as it is."""
        ...
