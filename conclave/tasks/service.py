"""Use cases of tasks, as every dialect calls them, and `ports.tasks` for the rest of the core."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from pydantic import JsonValue

from conclave.auditing import AuditLog, changed
from conclave.caller import current_caller
from conclave.db import Database, Transaction
from conclave.errors import Missing
from conclave.events import EventLog
from conclave.ports.files import FileDesk
from conclave.ports.threads import NewThread, TaskThreads
from conclave.tasks.commands import TaskFilter, TaskStats, UpdateTask
from conclave.tasks.endings import TaskEndings
from conclave.tasks.errors import TaskNotFound, TransitionRefused
from conclave.tasks.hot_path import Stored, TaskHotPath
from conclave.tasks.rendering import amendment_of, created_event, prompt_of
from conclave.tasks.repository import TaskRepository
from conclave.tasks.transitions import TaskTransitions
from conclave.tasks.wakes import TaskWakes
from schema.domain.events import EventDraft
from schema.domain.inbox import InboxItem
from schema.domain.tasks import NewTask, Task, TaskStatus

_TOLD_TO_THE_AGENT = frozenset({"title", "description", "instructions", "deadline"})
_DISPATCHED_BY = frozenset({"priority", "deadline", "required_tools", "agent_id"})
_WORKING = frozenset({TaskStatus.IN_PROGRESS, TaskStatus.REVIEW})


class TaskService:
    """Makes, finds, changes and cancels tasks; a `TaskDesk`."""

    def __init__(
        self,
        db: Database,
        events: EventLog,
        audit: AuditLog,
        threads: TaskThreads,
        wakes: TaskWakes,
        endings: TaskEndings,
        files: FileDesk,
    ) -> None:
        self._db = db
        self._events = events
        self._audit = audit
        self._threads = threads
        self._wakes = wakes
        self._endings = endings
        self._files = files
        self._transitions = TaskTransitions(endings)
        self._tasks = TaskRepository()
        self._hot = TaskHotPath()

    async def create(self, wanted: NewTask) -> Task:
        """Store a task; the dispatcher hands it out. Raises `Missing` naming the field."""
        async with self._db.transaction() as tx:
            task = await self.add(tx, wanted)
        return task

    async def get(self, task_id: int) -> Task:
        """Return one task. Raises `TaskNotFound`."""
        async with self._db.autocommit() as tx:
            return _found(await self._tasks.get(tx, task_id), task_id)

    async def list(self, wanted: TaskFilter, limit: int, offset: int) -> tuple[Sequence[Task], int]:
        """Return a page, newest first, and the number of all."""
        async with self._db.transaction() as tx:
            return await self._tasks.list(tx, wanted, limit, offset)

    async def stats(self) -> TaskStats:
        """Count tasks by status and by priority."""
        async with self._db.autocommit() as tx:
            return await self._tasks.stats(tx)

    async def update(self, task_id: int, command: UpdateTask) -> Task:
        """Apply what was set, and tell a run that works on it.

        Raises `TaskNotFound`, `Missing`, and `TransitionRefused` where the status forbids it.
        """
        given = command.model_dump(exclude_unset=True)
        told: list[Callable[[], None]] = []
        async with self._db.transaction() as tx:
            before = _found(await self._endings.hold(tx, task_id), task_id)
            await self._check(tx, command)
            drafts = await self._apply(tx, before, command, given, told)
            task = _found(await self._tasks.get(tx, task_id), task_id)
            changes = changed(_columns(before), _columns(task))
            if changes:
                await self._audit.record(tx, "task_updated", "task", task_id, changes=changes)
            await self._events.append(tx, drafts)
            tx.after_commit.extend(told)
        return task

    async def cancel_by_hand(self, task_id: int, reason: str | None) -> Task:
        """Cancel a task. Raises `TaskNotFound`, `TransitionRefused` where it is over for good."""
        async with self._db.transaction() as tx:
            task = _found(await self._endings.hold(tx, task_id), task_id)
            if task.status in (TaskStatus.COMPLETED, TaskStatus.CANCELLED):
                raise TransitionRefused(task_id, task.status, "cancelled")
            drafts = await self._endings.cancel(tx, task, reason or "Cancelled")
            await self._audit.record(tx, "task_cancelled", "task", task_id, details=reason)
            cancelled = _found(await self._tasks.get(tx, task_id), task_id)
            await self._events.append(tx, drafts)
        return cancelled

    async def add(self, tx: Transaction, wanted: NewTask) -> Task:
        """Store a task, or return the one its origin's key stands for. Raises `Missing`."""
        if wanted.origin is not None:
            await self._tasks.hold_key(tx, wanted.origin.key)
            known = await self._tasks.of_origin(tx, wanted.origin.key)
            if known is not None:
                return known
        await self._require(tx, wanted)
        thread = NewThread(
            owner=current_caller.get().principal.key,
            topic=wanted.title,
            prompt=prompt_of(wanted),
            project_id=wanted.project_id,
        )
        task = _stored(wanted, await self._hot.insert(tx, wanted, thread))
        if wanted.agent_id is not None and task.agent_name is None:
            raise Missing("agent_id", f"Agent {wanted.agent_id} not found")
        await self._audit.record(
            tx, "task_created", "task", task.id, changes=changed({}, _columns(task))
        )
        await self._wakes.soon(tx)
        await self._events.append(tx, [created_event(task)])
        return task

    async def of_origin(self, tx: Transaction, key: str) -> Task | None:
        """Return the task an origin's key stands for."""
        return await self._tasks.of_origin(tx, key)

    async def of_run(self, tx: Transaction, workflow_run_id: int) -> list[Task]:
        """Return the tasks of a pipeline's run, by id."""
        return await self._tasks.of_run(tx, workflow_run_id)

    async def cancel(self, tx: Transaction, task_id: int, reason: str) -> None:
        """Cancel a task and stop what runs of it; one that has ended is left as it is."""
        task = await self._endings.hold(tx, task_id)
        if task is not None and not task.has_ended:
            await self._events.append(tx, await self._endings.cancel(tx, task, reason))

    async def release(self, tx: Transaction, agent_id: int, *, keep_agent: bool) -> None:
        """Give back an agent's open tasks: what runs is stopped, and all go back to pending."""
        reason = "Its agent was stopped" if keep_agent else "Its agent is gone"
        drafts: list[EventDraft] = []
        for open_task in await self._tasks.open_of_agent(tx, agent_id):
            task = await self._endings.hold(tx, open_task.id)
            if task is not None and task.agent_id == agent_id and not task.has_ended:
                drafts += await self._endings.give_back(
                    tx, task, keep_agent=keep_agent, reason=reason
                )
        await self._events.append(tx, drafts)

    async def dispatch_soon(self, tx: Transaction) -> None:
        """Look for work to hand out once this is committed."""
        await self._wakes.soon(tx)

    async def budget_changed(self, tx: Transaction) -> None:
        """Let tasks that wait for budget try again once this is committed."""
        for task_id in await self._tasks.budget_waiters(tx):
            await self._wakes.owe(tx, task_id)

    async def approvals_changed(self, tx: Transaction, task_id: int) -> None:
        """Put a task into review while an approval of it is pending, and back into progress."""
        if await self._tasks.set_review(tx, task_id):
            await self._events.append(tx, [await self._endings.updated(tx, task_id, ["status"])])

    async def _require(self, tx: Transaction, wanted: NewTask) -> None:
        project_id = wanted.project_id
        if project_id is not None and not await self._tasks.has_project(tx, project_id):
            raise Missing("project_id", f"Project {project_id} not found")

    async def _check(self, tx: Transaction, command: UpdateTask) -> None:
        agent_id = command.agent_id
        if agent_id is not None and not await self._tasks.has_agent(tx, agent_id):
            raise Missing("agent_id", f"Agent {agent_id} not found")
        there = await self._files.exists(tx, command.output_files)
        missing = [one for one in command.output_files if one not in there]
        if missing:
            raise Missing("output_files", f"File {missing[0]} not found")

    async def _apply(
        self,
        tx: Transaction,
        before: Task,
        command: UpdateTask,
        given: dict[str, object],
        told: list[Callable[[], None]],
    ) -> list[EventDraft]:
        """Store plain changes first, then the agent and the status, which may stop a run."""
        plain = {
            name: value
            for name, value in given.items()
            if name not in {"status", "agent_id"} and _value(before, name) != value
        }
        values = dict(plain)
        if "priority" in plain:
            values["rank"] = command.priority.rank
        if "deadline" in plain:
            values["deadline_told"] = False
        if values:
            await self._tasks.change(tx, before.id, values)
        drafts = await self._transitions.apply(tx, before, command, given)
        if not drafts and plain:
            drafts = [await self._endings.updated(tx, before.id, sorted(plain))]
        if _DISPATCHED_BY & given.keys():
            await self._wakes.soon(tx)
        told_to_agent = _TOLD_TO_THE_AGENT & plain.keys()
        if told_to_agent and before.status in _WORKING and "status" not in given:
            await self._amend(tx, before, amendment_of(before, command, told_to_agent), told)
        return drafts

    async def _amend(
        self, tx: Transaction, task: Task, text: str, told: list[Callable[[], None]]
    ) -> None:
        """Put a change before the agent that works on the task."""
        run = await self._tasks.held_run(tx, task.id)
        if run is None:
            return
        principal = current_caller.get().principal.key
        item = await self._threads.amend(tx, task.conversation_id, principal, text, task.id)
        told.append(lambda: self._tell(task.id, run, item))

    def _tell(self, task_id: int, run: int, item: InboxItem) -> None:
        self._wakes.tell_amended(task_id, run, item)


def _value(task: Task, name: str) -> object:
    """Return a field as a change of it is written."""
    if name == "output_files":
        return [file.id for file in task.output_files]
    return getattr(task, name)


def _found(task: Task | None, task_id: int) -> Task:
    if task is None:
        raise TaskNotFound(task_id)
    return task


def _stored(wanted: NewTask, stored: Stored) -> Task:
    """Return a task as it was stored, without reading it back."""
    origin = wanted.origin
    return Task.model_validate(
        {
            **dict.fromkeys(Task.model_fields),
            **wanted.model_dump(exclude={"origin"}),
            **stored.model_dump(),
            "updated_at": stored.created_at,
            "status": TaskStatus.PENDING if wanted.agent_id is None else TaskStatus.ASSIGNED,
            "workflow_id": origin and origin.workflow_id,
            "workflow_run_id": origin and origin.workflow_run_id,
            "chain_depth": origin.chain_depth if origin else 0,
            "attempt": 1,
            "overdue": wanted.deadline is not None and wanted.deadline < stored.created_at,
            "output_files": [],
            "retry_count": 0,
            "progress_percent": 0,
            "cost_tokens": 0,
            "cost_usd": 0,
        }
    )


_NOT_TOLD = {"conversation_id", "attempt", "agent_name", "overdue", "created_at", "updated_at"}


def _columns(task: Task) -> dict[str, JsonValue]:
    """Return what people set, as the audit log compares it."""
    return task.model_dump(mode="json", exclude=_NOT_TOLD)
