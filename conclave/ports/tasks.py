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

    async def release(self, tx: Transaction, agent_id: int, *, keep_agent: bool) -> None:
        """Give back an agent's open tasks: what runs is stopped, and all go back to pending.

        `keep_agent`: they stay the agent's (it was stopped); else they are anybody's (it is gone).
        """
        ...

    async def dispatch_soon(self, tx: Transaction) -> None:
        """Look for work to hand out once this is committed: an agent may take more than before."""
        ...

    async def budget_changed(self, tx: Transaction) -> None:
        """Let tasks that wait for budget try again once this is committed."""
        ...

    async def approvals_changed(self, tx: Transaction, task_id: int) -> None:
        """Put a task into review while an approval of it is pending, and back into progress."""
        ...


class ProgressDesk(Protocol):
    """Takes what an agent reports of its task."""

    async def report(self, conversation_id: int, percent: int) -> bool:
        """Store how far it is; False where the task is over. Twice is the same."""
        ...
