"""PATCH of a task's agent and status: the hand-operated form of platform.md, section 3.

Any status that is not final may be set to any other; completed and cancelled never change, and a
failed one is opened again by pending. What of ours runs is stopped first.
"""

from __future__ import annotations

from collections.abc import Mapping

from conclave.db import Transaction
from conclave.errors import Invalid
from conclave.tasks.commands import UpdateTask
from conclave.tasks.dead_letter_repository import DeadLetterRepository
from conclave.tasks.endings import TaskEndings
from conclave.tasks.errors import TransitionRefused
from conclave.tasks.repository import TaskRepository
from schema.domain.conversations import ConversationStatus
from schema.domain.events import EventDraft
from schema.domain.tasks import (
    FINAL,
    RUNNING,
    DeadLetterStatus,
    Task,
    TaskErrorType,
    TaskStatus,
)

_BY_HAND = "Set by hand"


class TaskTransitions:
    """Moves tasks by hand; each method returns the events to append."""

    def __init__(self, endings: TaskEndings) -> None:
        self._endings = endings
        self._tasks = TaskRepository()
        self._letters = DeadLetterRepository()

    async def apply(
        self, tx: Transaction, task: Task, command: UpdateTask, given: Mapping[str, object]
    ) -> list[EventDraft]:
        """Apply `agent_id` and `status`, as far as they were given and change something.

        Raises `TransitionRefused`, `Invalid`.
        """
        drafts: list[EventDraft] = []
        if "agent_id" in given and command.agent_id != task.agent_id:
            drafts += await self._give_to(tx, task, command.agent_id)
            task = task.model_copy(
                update={"agent_id": command.agent_id, "status": await self._status(tx, task)}
            )
        if "status" in given and command.status is not task.status:
            drafts += await self._move(tx, task, command)
        return drafts

    async def _give_to(self, tx: Transaction, task: Task, agent_id: int | None) -> list[EventDraft]:
        """Give an open task to another agent, or to nobody: it is dispatched anew."""
        if task.status in FINAL:
            raise TransitionRefused(task.id, task.status, "given to another agent")
        if task.status is TaskStatus.FAILED:
            await self._tasks.change(tx, task.id, {"agent_id": agent_id})
            return [await self._endings.updated(tx, task.id, ["agent_id"])]
        drafts = await self._endings.give_back(tx, task, keep_agent=False, reason="Without agent")
        if agent_id is None:
            return drafts
        await self._tasks.change(
            tx,
            task.id,
            {"agent_id": agent_id, "status": TaskStatus.ASSIGNED, "pending_reason": None},
        )
        return [await self._endings.updated(tx, task.id, ["agent_id", "status"])]

    async def _move(self, tx: Transaction, task: Task, command: UpdateTask) -> list[EventDraft]:
        wanted = command.status
        if task.status in FINAL:
            raise TransitionRefused(task.id, task.status, wanted.value)
        if task.status is TaskStatus.FAILED and wanted is not TaskStatus.PENDING:
            if wanted is TaskStatus.CANCELLED:
                await self._letters.close(tx, [task.id], DeadLetterStatus.DISCARDED)
                return await self._endings.cancel(tx, task, _BY_HAND)
            raise TransitionRefused(task.id, task.status, wanted.value)
        match wanted:
            case TaskStatus.COMPLETED:
                return await self._endings.complete(tx, task, command.result)
            case TaskStatus.CANCELLED:
                return await self._endings.cancel(tx, task, _BY_HAND)
            case TaskStatus.FAILED:
                reason = command.error or _BY_HAND
                drafts, _ = await self._endings.give_up(
                    tx, task, TaskErrorType.ERROR.value, reason, source="manual"
                )
                return drafts
            case TaskStatus.PENDING:
                return await self.reopen(tx, task)
            case TaskStatus.ASSIGNED if task.agent_id is None:
                raise Invalid("status", "assigned needs an agent_id")
            case _:
                return await self._set(tx, task, wanted)

    async def reopen(self, tx: Transaction, task: Task) -> list[EventDraft]:
        """Let a task begin anew as another attempt, its retries counted from 0."""
        if task.status is TaskStatus.FAILED:
            await self._letters.close(tx, [task.id], DeadLetterStatus.RETRIED)
            await self._tasks.change(
                tx,
                task.id,
                {"retry_count": 0, "error": None, "error_type": None, "completed_at": None},
            )
        return await self._endings.give_back(tx, task, keep_agent=True, reason="")

    async def _set(self, tx: Transaction, task: Task, wanted: TaskStatus) -> list[EventDraft]:
        """Take a worker's word for where the task stands; a run of ours is stopped first."""
        await self._endings.stop(tx, task, ConversationStatus.CANCELLED)
        now = await self._tasks.now(tx)
        values: dict[str, object] = {"status": wanted, "pending_reason": None}
        if wanted in RUNNING and wanted is not TaskStatus.ASSIGNED and task.started_at is None:
            values["started_at"] = now
        await self._tasks.change(tx, task.id, values)
        return [await self._endings.updated(tx, task.id, ["status"])]

    async def _status(self, tx: Transaction, task: Task) -> TaskStatus:
        found = await self._tasks.get(tx, task.id)
        assert found is not None
        return found.status
