"""What triggers ask of the durable engine, of conversations, and of who knows the budget."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Protocol

from conclave.db import Transaction
from schema.domain.tasks import NewTask, Task
from schema.payloads.triggers import TriggerInput, TriggerSchedule


class TriggerEngine(Protocol):
    """Every call may be made twice. Raises `Unavailable` where the engine cannot be reached."""

    async def keep_schedule(self, wanted: TriggerSchedule) -> None:
        """Make a trigger's schedule, or bring the one that is there to what is wanted."""
        ...

    async def remove_schedule(self, trigger_id: int) -> None:
        """Remove a trigger's schedule; none is success."""
        ...

    async def next_times(self, trigger_ids: Collection[int]) -> Mapping[int, datetime]:
        """Return when each will fire next, those side by side; what cannot be told is left out.

        Never raises.
        """
        ...

    async def start_firing(self, asked: TriggerInput, firing_key: str) -> None:
        """Start a firing's run. Raises `ExecutionClosed` where it is over."""
        ...

    async def keep_checks(self, every_seconds: int) -> None:
        """Make the schedule that looks at the thresholds of one rhythm."""
        ...

    async def remove_checks(self, every_seconds: int) -> None:
        """Remove it; none is success."""
        ...


class ConversationStarter(Protocol):
    """Starts conversations inside the asking transaction."""

    async def start(
        self,
        tx: Transaction,
        *,
        topic: str,
        agent_ids: Collection[int],
        circle_name: str | None,
        prompt: str | None,
        max_turns: int,
        owner: str,
    ) -> int:
        """Store a conversation that runs by itself and return its id.

        Without agents all who speak in the circle take part. Its workflow is started once the
        transaction is committed. Raises `NotFound`, `Conflict` and `Invalid`.
        """
        ...


class TaskMaker(Protocol):
    """Makes tasks: as much of a `TaskDesk` as triggers ask for."""

    async def add(self, tx: Transaction, wanted: NewTask) -> Task:
        """Store a task, or return the one its origin's key stands for."""
        ...


class PipelineCatalogue(Protocol):
    """Knows which pipelines there are."""

    async def exists(self, tx: Transaction, workflow_id: int) -> bool:
        """Whether there is such a pipeline."""
        ...


class BudgetGauge(Protocol):
    """Knows how much of the month's budget is spent."""

    async def percent_used(self, tx: Transaction) -> float | None:
        """Return the percentage, None without a limit."""
        ...
