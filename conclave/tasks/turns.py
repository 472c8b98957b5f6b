"""How a task follows the turn it is worked on in (`ports.task_turns`)."""

from __future__ import annotations

from collections.abc import Sequence

from conclave.db import Transaction
from conclave.tasks.endings import TaskEndings
from conclave.tasks.rendering import task_event
from conclave.tasks.repository import TaskRepository
from schema.domain.events import EventDraft, EventType
from schema.domain.llm import ModelReply
from schema.payloads.agent_turn import CompleteInput


class TaskTurnService:
    """A `TaskTurns`."""

    def __init__(self, endings: TaskEndings) -> None:
        self._endings = endings
        self._tasks = TaskRepository()

    async def begun(self, tx: Transaction, call: CompleteInput) -> Sequence[EventDraft]:
        """Show the task as in progress from the first call of its attempt on."""
        if not await self._tasks.begin_work(tx, call.conversation_id):
            return []
        task = await self._tasks.of_conversation(tx, call.conversation_id)
        if task is None:
            return []
        return [task_event(task, EventType.TASK_UPDATED, changed=["status"])]

    async def said(
        self, tx: Transaction, call: CompleteInput, reply: ModelReply, *, is_last: bool
    ) -> Sequence[EventDraft]:
        """Count what the call used; complete the task with its last reply."""
        await self._tasks.add_tokens(tx, call.conversation_id, reply.tokens_in + reply.tokens_out)
        if not is_last:
            return []
        task = await self._tasks.of_conversation(tx, call.conversation_id)
        if task is None or task.has_ended:
            return []
        return await self._endings.complete(tx, task, reply.text, by_agent=True)
