"""A task desk that remembers what agents asked of it."""

from __future__ import annotations

from conclave.db import Transaction
from schema.domain.tasks import NewTask, Task


class FakeTaskDesk:
    """A `TaskDesk`: counts what is released and how often work is looked for."""

    def __init__(self) -> None:
        self.released: list[tuple[int, bool]] = []
        self.looked = 0

    def reset(self) -> None:
        """Forget it."""
        self.released.clear()
        self.looked = 0

    async def release(self, tx: Transaction, agent_id: int, *, keep_agent: bool) -> None:
        self.released.append((agent_id, keep_agent))

    async def dispatch_soon(self, tx: Transaction) -> None:
        self.looked += 1

    async def add(self, tx: Transaction, wanted: NewTask) -> Task:
        raise NotImplementedError

    async def of_origin(self, tx: Transaction, key: str) -> Task | None:
        raise NotImplementedError

    async def of_run(self, tx: Transaction, workflow_run_id: int) -> list[Task]:
        raise NotImplementedError

    async def cancel(self, tx: Transaction, task_id: int, reason: str) -> None:
        raise NotImplementedError

    async def budget_changed(self, tx: Transaction) -> None:
        raise NotImplementedError

    async def approvals_changed(self, tx: Transaction, task_id: int) -> None:
        raise NotImplementedError
