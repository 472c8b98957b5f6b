"""How a task follows the turn it is worked on in (`ports.task_turns`)."""

from __future__ import annotations

from collections.abc import Sequence

from conclave.db import Transaction
from conclave.tasks.endings import TaskEndings
from conclave.tasks.hot_path import TaskHotPath
from conclave.tasks.rendering import task_event
from schema.domain.events import EventDraft, EventType
from schema.payloads.agent_turn import CompleteInput


class TaskTurnService:
    """A `TaskTurns`."""

    def __init__(self, endings: TaskEndings) -> None:
        self._endings = endings
        self._hot = TaskHotPath()

    async def begun(self, tx: Transaction, call: CompleteInput) -> Sequence[EventDraft]:
        """Show the task as in progress from the first call of its attempt on."""
        begun = await self._hot.begin(tx, call.conversation_id)
        if begun is None:
            return []
        if begun.agent_id is not None and not begun.is_told_busy:
            await self._endings.agent_changed(tx)
        return [task_event(begun, EventType.TASK_UPDATED, changed=["status"])]

    async def completed(
        self, tx: Transaction, call: CompleteInput, result: str
    ) -> Sequence[EventDraft]:
        """Complete the task with its agent's last words."""
        return await self._endings.complete_by_agent(
            tx, call.conversation_id, call.execution, result
        )
