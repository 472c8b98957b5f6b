"""SQL on tasks: reading, storing and changing them. The dispatcher's is `dispatch_repository`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from sqlalchemy import ColumnElement, and_, any_, case, func, literal, or_, select, text, update
from sqlalchemy.dialects.postgresql import aggregate_order_by

from conclave.db import Transaction
from conclave.tasks.commands import TaskFilter, TaskStats
from schema.domain.tasks import ENDED, FailedAttempt, Task, TaskPriority, TaskStatus
from schema.tables.agents import AgentRow
from schema.tables.conversations import ConversationRow
from schema.tables.files import FileRow
from schema.tables.projects import ProjectRow
from schema.tables.tasks import TaskAttemptRow, TaskRow
from schema.tables.tools import ApprovalRow

_LIVING = TaskRow.deleted_at.is_(None)
_ELSEWHERE = {"agent_name", "attempt", "overdue", "cost_usd", "metadata", "output_files"}
_SHOWN = [name for name in Task.model_fields if name not in _ELSEWHERE]
_OUTPUT = (
    select(
        func.coalesce(
            func.json_agg(
                aggregate_order_by(
                    func.json_build_object(
                        literal("id"),
                        FileRow.id,
                        literal("filename"),
                        FileRow.filename,
                        literal("size_bytes"),
                        FileRow.size_bytes,
                        literal("content_type"),
                        FileRow.content_type,
                    ),
                    func.array_position(TaskRow.output_files, FileRow.id),
                )
            ),
            func.json_build_array(),
        )
    )
    .where(FileRow.id == any_(TaskRow.output_files))
    .correlate(TaskRow)
)
_TASK = (
    *(getattr(TaskRow, name) for name in _SHOWN),
    TaskRow.meta.label("metadata"),
    _OUTPUT.scalar_subquery().label("output_files"),
    AgentRow.name.label("agent_name"),
    ConversationRow.execution.label("attempt"),
    ConversationRow.cost_usd,
    func.coalesce(
        and_(
            TaskRow.deadline < func.clock_timestamp(),
            TaskRow.status.not_in([status.value for status in ENDED]),
        ),
        literal(False),
    ).label("overdue"),
)
_SELECT = (
    select(*_TASK)
    .join(ConversationRow, ConversationRow.id == TaskRow.conversation_id)
    .outerjoin(AgentRow, AgentRow.id == TaskRow.agent_id)
    .where(_LIVING)
)
_HOLD_KEY = text("SELECT pg_advisory_xact_lock(hashtextextended(:key, 7))")

_NEXT_DAY = text(
    "SELECT (date_trunc('day', clock_timestamp() AT TIME ZONE 'UTC') + interval '1 day')"
    " AT TIME ZONE 'UTC'"
)


_COUNTS = text(
    """
    SELECT status, priority, (
        SELECT count(*) FROM tasks
        WHERE tasks.status = wanted.status AND tasks.priority = named.priority
            AND deleted_at IS NULL
    ) FROM unnest(CAST(:statuses AS varchar[])) AS wanted(status),
        unnest(CAST(:priorities AS varchar[])) AS named(priority)
    """
)
"""A walk through a piece of an index each: half the time of grouping the rows."""


class TaskRepository:
    """Reads see tasks that are not deleted."""

    async def hold_key(self, tx: Transaction, key: str) -> None:
        """Let nobody else make the task of this origin until the transaction ends."""
        await tx.conn.execute(_HOLD_KEY, {"key": key})

    async def get(self, tx: Transaction, task_id: int) -> Task | None:
        """Return one task."""
        row = (await tx.conn.execute(_SELECT.where(TaskRow.id == task_id))).mappings()
        found = row.one_or_none()
        return None if found is None else Task.model_validate(found)

    async def of_conversation(self, tx: Transaction, conversation_id: int) -> Task | None:
        """Return the task that is worked on in a thread."""
        row = await tx.conn.execute(_SELECT.where(TaskRow.conversation_id == conversation_id))
        found = row.mappings().one_or_none()
        return None if found is None else Task.model_validate(found)

    async def of_origin(self, tx: Transaction, key: str) -> Task | None:
        """Return the task of an origin."""
        row = (await tx.conn.execute(_SELECT.where(TaskRow.origin_key == key))).mappings()
        found = row.one_or_none()
        return None if found is None else Task.model_validate(found)

    async def of_run(self, tx: Transaction, workflow_run_id: int) -> list[Task]:
        """Return the tasks of a pipeline's run, by id."""
        rows = await tx.conn.execute(
            _SELECT.where(TaskRow.workflow_run_id == workflow_run_id).order_by(TaskRow.id)
        )
        return [Task.model_validate(row) for row in rows.mappings()]

    async def open_of_agent(self, tx: Transaction, agent_id: int) -> list[Task]:
        """Return an agent's tasks that have not ended, by id."""
        rows = await tx.conn.execute(
            _SELECT.where(
                TaskRow.agent_id == agent_id,
                TaskRow.status.not_in([status.value for status in ENDED]),
            ).order_by(TaskRow.conversation_id)
        )
        return [Task.model_validate(row) for row in rows.mappings()]

    async def lock(self, tx: Transaction, task_id: int) -> None:
        """Lock a task whose thread is held."""
        await tx.conn.execute(select(TaskRow.id).where(TaskRow.id == task_id).with_for_update())

    async def thread_of(self, tx: Transaction, task_id: int) -> int | None:
        """Return the conversation of a task; it never changes."""
        return await tx.conn.scalar(
            select(TaskRow.conversation_id).where(TaskRow.id == task_id, _LIVING)
        )

    async def list(
        self, tx: Transaction, wanted: TaskFilter, limit: int, offset: int
    ) -> tuple[Sequence[Task], int]:
        """Return a page, newest first, and the number of all."""
        conditions: list[ColumnElement[bool]] = [_LIVING]
        if wanted.statuses is not None:
            conditions.append(TaskRow.status.in_([one.value for one in wanted.statuses]))
        if wanted.priority is not None:
            conditions.append(TaskRow.priority == wanted.priority)
        if wanted.agent_id is not None:
            conditions.append(TaskRow.agent_id == wanted.agent_id)
        total = await tx.conn.scalar(select(func.count()).select_from(TaskRow).where(*conditions))
        page = (
            select(TaskRow.id)
            .where(*conditions)
            .order_by(TaskRow.id.desc())
            .limit(limit)
            .offset(offset)
        )
        rows = await tx.conn.execute(
            _SELECT.where(TaskRow.id.in_(page.scalar_subquery())).order_by(TaskRow.id.desc())
        )
        return [Task.model_validate(row) for row in rows.mappings()], total or 0

    async def stats(self, tx: Transaction) -> TaskStats:
        """Count tasks by status and by priority, every key present."""
        keys = {"statuses": list(TaskStatus), "priorities": list(TaskPriority)}
        rows = await tx.conn.execute(_COUNTS, keys)
        by_status = dict.fromkeys(TaskStatus, 0)
        by_priority = dict.fromkeys(TaskPriority, 0)
        for status, priority, count in rows:
            by_status[TaskStatus(status)] += count
            by_priority[TaskPriority(priority)] += count
        return TaskStats(
            total=sum(by_status.values()), by_status=by_status, by_priority=by_priority
        )

    async def held_run(self, tx: Transaction, task_id: int) -> int | None:
        """Return the run that holds the task's slot, None where none does."""
        return await tx.conn.scalar(
            select(TaskRow.workflow_run).where(TaskRow.id == task_id, TaskRow.is_started.is_(True))
        )

    async def change(self, tx: Transaction, task_id: int, values: Mapping[str, object]) -> None:
        """Change columns of one task."""
        await tx.conn.execute(
            update(TaskRow)
            .where(TaskRow.id == task_id)
            .values(**values, updated_at=func.clock_timestamp())
        )

    async def let_go(self, tx: Transaction, task_id: int, run: int) -> None:
        """Take a task from a run, which Temporal is to be told to cancel."""
        stopped = func.array_append(TaskRow.stop_runs, run)
        await self.change(tx, task_id, {"is_started": False, "stop_runs": stopped})

    async def end_attempt(
        self,
        tx: Transaction,
        task_id: int,
        attempt: int,
        outcome: str,
        *,
        error: str | None = None,
        error_type: str | None = None,
    ) -> None:
        """Note how an attempt ended; the first word stays."""
        await tx.conn.execute(
            update(TaskAttemptRow)
            .where(
                TaskAttemptRow.task_id == task_id,
                TaskAttemptRow.attempt == attempt,
                TaskAttemptRow.ended_at.is_(None),
            )
            .values(
                ended_at=func.clock_timestamp(),
                outcome=outcome,
                error=error,
                error_type=error_type,
            )
        )

    async def failed_attempts(self, tx: Transaction, task_id: int) -> list[FailedAttempt]:
        """Return the attempts that failed, in order."""
        rows = await tx.conn.execute(
            select(
                TaskAttemptRow.attempt,
                TaskAttemptRow.started_at,
                TaskAttemptRow.ended_at.label("failed_at"),
                func.coalesce(TaskAttemptRow.error, "").label("error"),
            )
            .where(TaskAttemptRow.task_id == task_id, TaskAttemptRow.outcome == "failed")
            .order_by(TaskAttemptRow.attempt)
        )
        return [FailedAttempt.model_validate(row) for row in rows.mappings()]

    async def waiter(self, tx: Transaction, task_id: int) -> tuple[str, int] | None:
        """Return who is woken when a task has ended."""
        row = await tx.conn.execute(
            select(TaskRow.waiter_kind, TaskRow.waiter_id).where(TaskRow.id == task_id)
        )
        kind, waiter_id = row.one()
        return None if kind is None or waiter_id is None else (kind, waiter_id)

    async def has_agent(self, tx: Transaction, agent_id: int) -> bool:
        """Whether there is such an agent."""
        found = select(AgentRow.id).where(AgentRow.id == agent_id, AgentRow.deleted_at.is_(None))
        return await tx.conn.scalar(found) is not None

    async def has_project(self, tx: Transaction, project_id: int) -> bool:
        """Whether there is such a project."""
        found = select(ProjectRow.id).where(
            ProjectRow.id == project_id, ProjectRow.deleted_at.is_(None)
        )
        return await tx.conn.scalar(found) is not None

    async def overdue(self, tx: Transaction, limit: int) -> list[Task]:
        """Mark tasks whose deadline has passed as told, and return them."""
        due = (
            select(TaskRow.id)
            .where(
                TaskRow.deadline < func.clock_timestamp(),
                TaskRow.deadline_told.is_(False),
                TaskRow.status.not_in([status.value for status in ENDED]),
                _LIVING,
            )
            .limit(limit)
            .with_for_update(skip_locked=True)
        )
        ids = await tx.conn.scalars(
            update(TaskRow)
            .where(TaskRow.id.in_(due.scalar_subquery()))
            .values(deadline_told=True)
            .returning(TaskRow.id)
        )
        rows = await tx.conn.execute(_SELECT.where(TaskRow.id.in_(ids.all())))
        return [Task.model_validate(row) for row in rows.mappings()]

    async def budget_waiters(self, tx: Transaction) -> list[int]:
        """Let tasks that wait for budget try again now; return their ids."""
        waiting = (
            select(TaskRow.id)
            .where(
                TaskRow.status == TaskStatus.PENDING,
                TaskRow.error_type == "budget_exhausted",
                TaskRow.is_started.is_(True),
                _LIVING,
            )
            .order_by(TaskRow.id)
            .with_for_update()
            .cte("waiting")
        )
        ids = await tx.conn.scalars(
            update(TaskRow)
            .where(TaskRow.id == waiting.c.id)
            .values(next_attempt_at=func.clock_timestamp())
            .returning(TaskRow.id)
        )
        return list(ids)

    async def now(self, tx: Transaction) -> datetime:
        """Return the record's clock."""
        found = await tx.conn.scalar(select(func.clock_timestamp()))
        assert found is not None
        return found

    async def next_day(self, tx: Transaction) -> datetime:
        """Return when the next day begins, in UTC."""
        found = await tx.conn.scalar(_NEXT_DAY)
        assert isinstance(found, datetime)
        return found

    async def set_progress(self, tx: Transaction, conversation_id: int, percent: int) -> bool:
        """Store progress of a task that is worked on; False where it is not."""
        stored = await tx.conn.execute(
            update(TaskRow)
            .where(
                TaskRow.conversation_id == conversation_id,
                TaskRow.status.in_([TaskStatus.IN_PROGRESS, TaskStatus.REVIEW]),
            )
            .values(progress_percent=percent, updated_at=func.clock_timestamp())
            .returning(TaskRow.id)
        )
        return stored.scalar_one_or_none() is not None

    async def set_review(self, tx: Transaction, task_id: int) -> bool:
        """Show a running task as in review while an approval of it is pending; True: changed."""
        asks = (
            select(ApprovalRow.id)
            .where(
                or_(
                    ApprovalRow.task_id == TaskRow.id,
                    ApprovalRow.conversation_id == TaskRow.conversation_id,
                ),
                ApprovalRow.status == "pending",
            )
            .exists()
        )
        wanted = case(
            (asks, literal(TaskStatus.REVIEW.value)), else_=literal(TaskStatus.IN_PROGRESS.value)
        )
        changed = await tx.conn.execute(
            update(TaskRow)
            .where(
                TaskRow.id == task_id,
                TaskRow.status.in_([TaskStatus.IN_PROGRESS, TaskStatus.REVIEW]),
                TaskRow.status != wanted,
            )
            .values(status=wanted, updated_at=func.clock_timestamp())
            .returning(TaskRow.id)
        )
        return changed.scalar_one_or_none() is not None

    async def has_asked_for_budget(self, tx: Transaction, task_id: int, limit: float) -> bool:
        """Whether people were asked already to raise a task's budget from this limit."""
        asked = select(ApprovalRow.id).where(
            ApprovalRow.task_id == task_id,
            ApprovalRow.type == "budget_increase",
            ApprovalRow.details["from_usd"].as_float() == limit,
        )
        return await tx.conn.scalar(asked.limit(1)) is not None
