"""How tasks end, whoever ends them: in one place, so that nobody is told twice or not at all.

Everything here happens inside the caller's transaction, with the thread and then the task held.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Mapping
from datetime import datetime, timedelta

from pydantic import JsonValue

from conclave.db import Transaction
from conclave.events import EventLog
from conclave.mailbox import Mailbox
from conclave.ports.agents import AgentRecord
from conclave.ports.threads import TaskThreads
from conclave.ports.tools import ApprovalDesk
from conclave.tasks.dead_letter_repository import DeadLetterRepository
from conclave.tasks.hot_path import TaskHotPath
from conclave.tasks.rendering import (
    completed_event,
    dead_letter_event,
    failed_event,
    seconds_of,
    task_event,
)
from conclave.tasks.repository import TaskRepository
from conclave.tasks.wakes import TaskWakes
from schema.domain.approvals import ApprovalRequest, RiskLevel
from schema.domain.conversations import ConversationStatus
from schema.domain.events import EventDraft, EventType
from schema.domain.tasks import DeadLetter, Task, TaskErrorType, TaskStatus
from schema.payloads.tasks import Shortage

_FIRST_DELAY_SECONDS = 5.0
_LONGEST_DELAY_SECONDS = 300.0
_OWN_BUDGET = "task"
_STOPPED = "The task was stopped before this call ran."


def is_retryable(error_type: str) -> bool:
    """Whether another attempt can help; what is not known is tried again."""
    try:
        return TaskErrorType(error_type).is_retryable
    except ValueError:
        return True


def delay_of(retry_count: int) -> timedelta:
    """Return the wait before a retry: 5 s · 2ⁿ, 5 min at most, with a fifth of jitter."""
    usual = min(_FIRST_DELAY_SECONDS * 2**retry_count, _LONGEST_DELAY_SECONDS)
    return timedelta(seconds=usual * random.uniform(0.9, 1.1))


class TaskEndings:
    """Completes, fails, cancels and gives back tasks."""

    def __init__(
        self,
        events: EventLog,
        mailbox: Mailbox,
        threads: TaskThreads,
        wakes: TaskWakes,
    ) -> None:
        self._events = events
        self._mailbox = mailbox
        self._threads = threads
        self._wakes = wakes
        self._tasks = TaskRepository()
        self._letters = DeadLetterRepository()
        self._hot = TaskHotPath()
        self.agents: AgentRecord | None = None
        self.approvals: ApprovalDesk | None = None
        """Both set by the composition root."""

    async def hold(self, tx: Transaction, task_id: int) -> Task | None:
        """Lock a task, its thread first, and return it as it is now."""
        conversation_id = await self._tasks.thread_of(tx, task_id)
        if conversation_id is None:
            return None
        await self._threads.hold(tx, conversation_id)
        await self._tasks.lock(tx, task_id)
        return await self._tasks.get(tx, task_id)

    async def agent_changed(self, tx: Transaction) -> None:
        """Let it be told that an agent is busy now, or idle."""
        await self._wakes.soon(tx)

    async def complete_by_agent(
        self, tx: Transaction, conversation_id: int, attempt: int, result: str
    ) -> list[EventDraft]:
        """End a task with its agent's last reply, which ends its run by itself.

        Returns the events to append, last in the transaction; none where it has ended before.
        """
        ended = await self._hot.complete(tx, conversation_id, attempt, result)
        if ended is None:
            return []
        if ended.waiter_kind is not None and ended.waiter_id is not None:
            self._wakes.tell(tx, ended.waiter_kind, ended.waiter_id)
        if self.approvals is not None and ended.has_approvals:
            await self.approvals.cancel_of(tx, task_id=ended.id)
        await self._wakes.soon(tx)
        return [completed_event(ended, result, ended.completed_at, ended.seconds)]

    async def complete(self, tx: Transaction, task: Task, result: str | None) -> list[EventDraft]:
        """End a task well by hand; a run of ours is stopped. Returns the events to append."""
        await self.stop(tx, task, ConversationStatus.COMPLETED)
        now = await self._tasks.now(tx)
        values: dict[str, object] = {
            "status": TaskStatus.COMPLETED,
            "progress_percent": 100,
            "error": None,
            "error_type": None,
        }
        if result is not None:
            values["result"] = result
        ended = await self._ended(tx, task, values, now)
        await self._tasks.end_attempt(tx, task.id, task.attempt, "completed")
        await self._count(tx, ended, completed=True)
        return [completed_event(ended, ended.result, now, seconds_of(ended))]

    async def cancel(self, tx: Transaction, task: Task, reason: str) -> list[EventDraft]:
        """End a task that nobody wants any more; what runs of it is stopped."""
        await self.stop(tx, task, ConversationStatus.CANCELLED)
        now = await self._tasks.now(tx)
        ended = await self._ended(
            tx, task, {"status": TaskStatus.CANCELLED, "pending_reason": None}, now
        )
        await self._tasks.end_attempt(tx, task.id, task.attempt, "cancelled", error=reason)
        return [task_event(ended, EventType.TASK_UPDATED, changed=["status"], reason=reason)]

    async def fail(self, tx: Transaction, task: Task, error_type: str, reason: str) -> None:
        """End a task that failed for good, with a dead letter."""
        drafts, _ = await self.give_up(tx, task, error_type, reason)
        await self._events.append(tx, drafts)

    async def give_up(
        self,
        tx: Transaction,
        task: Task,
        error_type: str,
        reason: str,
        *,
        source: str = "auto",
        by_run: bool = False,
        metadata: Mapping[str, JsonValue] | None = None,
    ) -> tuple[list[EventDraft], DeadLetter]:
        """Fail a task for good; return the events to append, and its dead letter.

        `by_run`: the run itself says so and ends by itself.
        """
        if by_run:
            await self.end_thread(tx, task, ConversationStatus.FAILED)
        else:
            await self.stop(tx, task, ConversationStatus.FAILED)
        now = await self._tasks.now(tx)
        values: dict[str, object] = {
            "status": TaskStatus.FAILED,
            "error": reason,
            "error_type": error_type,
        }
        ended = await self._ended(tx, task, values, now)
        await self._fail_attempt(tx, task, error_type, reason)
        letter = await self._letters.insert(
            tx,
            ended,
            await self._tasks.failed_attempts(tx, task.id),
            source=source,
            is_retryable=is_retryable(error_type),
            metadata=metadata,
        )
        await self._count(tx, ended, completed=False)
        drafts = [failed_event(ended, letter.id), dead_letter_event(letter)]
        return drafts, letter

    async def retry_later(
        self, tx: Transaction, task: Task, error_type: str, reason: str
    ) -> tuple[datetime, list[EventDraft]]:
        """Let a failed attempt be followed by another one, its run waits for it."""
        await self.end_thread(tx, task, ConversationStatus.FAILED)
        at = await self._tasks.now(tx) + delay_of(task.retry_count)
        values: dict[str, object] = {
            "status": TaskStatus.PENDING,
            "error": reason,
            "error_type": error_type,
            "retry_count": task.retry_count + 1,
            "next_attempt_at": at,
            "pending_reason": f"To be tried again: {reason}",
        }
        await self._tasks.change(tx, task.id, values)
        await self._fail_attempt(tx, task, error_type, reason)
        await self.agent_changed(tx)
        return at, [await self.updated(tx, task.id, ["status", "retry_count"])]

    async def wait_for_budget(
        self, tx: Transaction, task: Task, reason: str, until: datetime | None
    ) -> list[EventDraft]:
        """Let a task wait until there is budget: raised, granted, or another period's."""
        await self.end_thread(tx, task, ConversationStatus.FAILED)
        values: dict[str, object] = {
            "status": TaskStatus.PENDING,
            "error_type": TaskErrorType.BUDGET.value,
            "error": None,
            "next_attempt_at": until,
            "pending_reason": reason,
        }
        await self._tasks.change(tx, task.id, values)
        await self._tasks.end_attempt(
            tx, task.id, task.attempt, "waiting", error=reason, error_type="budget_exhausted"
        )
        await self.agent_changed(tx)
        return [await self.updated(tx, task.id, ["status", "pending_reason"])]

    async def ask_for_budget(self, tx: Transaction, task: Task, short: Shortage) -> None:
        """Ask people to raise the task's own budget; once for each limit that it meets."""
        if short.scope != _OWN_BUDGET or short.limit is None or self.approvals is None:
            return
        if await self._tasks.has_asked_for_budget(tx, task.id, short.limit):
            return
        missing = (short.spent or 0) + (short.needed or 0) - short.limit
        await self.approvals.ask(
            tx,
            ApprovalRequest(
                type="budget_increase",
                action=f"Raise the budget of task {task.id}",
                description=f"{task.title}: {short.limit} USD do not cover its next model call",
                risk_level=RiskLevel.HIGH,
                task_id=task.id,
                agent_id=task.agent_id,
                details={
                    "task_id": task.id,
                    "from_usd": short.limit,
                    "to_usd": round(short.limit + max(short.limit, 2 * missing), 6),
                },
            ),
        )

    async def give_back(
        self,
        tx: Transaction,
        task: Task,
        *,
        keep_agent: bool,
        reason: str,
        by_run: bool = False,
    ) -> list[EventDraft]:
        """Stop what runs and let the dispatcher decide anew; `by_run`: the run itself says so."""
        if by_run:
            await self.end_thread(tx, task, ConversationStatus.CANCELLED)
        else:
            await self.stop(tx, task, ConversationStatus.CANCELLED)
        values: dict[str, object] = {
            "is_started": False,
            "status": TaskStatus.PENDING,
            "pending_reason": reason,
            "next_attempt_at": None,
        }
        if not keep_agent:
            values["agent_id"] = None
        await self._tasks.change(tx, task.id, values)
        await self._tasks.end_attempt(tx, task.id, task.attempt, "stopped", error=reason)
        await self._wakes.soon(tx)
        return [await self.updated(tx, task.id, ["status", *([] if keep_agent else ["agent_id"])])]

    async def stop(self, tx: Transaction, task: Task, status: ConversationStatus) -> None:
        """Stop a task's run, if it has one: nothing of it commits from now on."""
        await self.end_thread(tx, task, status)
        run = await self._tasks.held_run(tx, task.id)
        if run is None:
            return
        await self._tasks.let_go(tx, task.id, run)
        await self._wakes.owe(tx, task.id)

    async def end_thread(self, tx: Transaction, task: Task, status: ConversationStatus) -> None:
        """Let nothing of the attempt commit any more."""
        await self._threads.close(tx, task.conversation_id, status, _STOPPED)

    async def updated(self, tx: Transaction, task_id: int, changed: Collection[str]) -> EventDraft:
        """Return the event of a change that was just made."""
        task = await self._tasks.get(tx, task_id)
        assert task is not None
        return task_event(task, EventType.TASK_UPDATED, changed=changed)

    async def _ended(
        self, tx: Transaction, task: Task, values: dict[str, object], now: datetime
    ) -> Task:
        """Store an end, wake who waits for it, and let the dispatcher use the free slot."""
        await self._tasks.change(
            tx,
            task.id,
            {
                "completed_at": now,
                "next_attempt_at": None,
                "pending_reason": None,
                "is_started": False,
                **values,
            },
        )
        if self.approvals is not None:
            await self.approvals.cancel_of(tx, task_id=task.id)
        waiter = await self._tasks.waiter(tx, task.id)
        if waiter is not None:
            await self._mailbox.owe(tx, *waiter)
            self._wakes.tell(tx, *waiter)
        await self._wakes.soon(tx)
        ended = await self._tasks.get(tx, task.id)
        assert ended is not None
        return ended

    async def _fail_attempt(
        self, tx: Transaction, task: Task, error_type: str, reason: str
    ) -> None:
        await self._tasks.end_attempt(
            tx, task.id, task.attempt, "failed", error=reason, error_type=error_type
        )

    async def _count(self, tx: Transaction, task: Task, *, completed: bool) -> None:
        """Tell the agent's record of an end; it locks the agent, so it comes late."""
        if self.agents is not None and task.agent_id is not None:
            await self.agents.task_ended(
                tx,
                task.agent_id,
                completed=completed,
                seconds=seconds_of(task) or 0.0,
                error_type=_known(task.error_type),
                reason=task.error,
            )


def _known(error_type: str | None) -> TaskErrorType | None:
    try:
        return None if error_type is None else TaskErrorType(error_type)
    except ValueError:
        return None
