"""Stand-ins where nobody makes tasks or tells people: steps that need it fail and say so."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from pydantic import JsonValue

from conclave.db import Transaction
from conclave.errors import Conflict
from schema.domain.notifications import Severity
from schema.domain.tasks import NewTask, Task


class NoTasks:
    """Implements `conclave.ports.tasks.TaskDesk`; there is never a task."""

    async def add(self, tx: Transaction, wanted: NewTask) -> Task:
        """Raise `Conflict`."""
        raise Conflict("Tasks are not set up")

    async def of_origin(self, tx: Transaction, key: str) -> Task | None:
        """Return None."""
        return None

    async def of_run(self, tx: Transaction, workflow_run_id: int) -> list[Task]:
        """Return none."""
        return []

    async def cancel(self, tx: Transaction, task_id: int, reason: str) -> None:
        """Do nothing, as the others."""

    async def release(self, tx: Transaction, agent_id: int, *, keep_agent: bool) -> None: ...  # noqa: D102

    async def dispatch_soon(self, tx: Transaction) -> None: ...  # noqa: D102

    async def budget_changed(self, tx: Transaction) -> None: ...  # noqa: D102

    async def approvals_changed(self, tx: Transaction, task_id: int) -> None: ...  # noqa: D102


class NoNotifier:
    """Implements `conclave.ports.notifications.Notifier`."""

    async def notify(
        self,
        tx: Transaction,
        *,
        title: str,
        message: str,
        severity: Severity = Severity.INFO,
        event_type: str | None = None,
        user_ids: Collection[int] | None = None,
        metadata: Mapping[str, JsonValue] | None = None,
    ) -> list[int]:
        """Raise `Conflict`."""
        raise Conflict("Notifications are not set up")
