"""All SQL on dead letters."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from pydantic import JsonValue
from sqlalchemy import ColumnElement, func, insert, select, update
from sqlalchemy.orm import InstrumentedAttribute

from conclave.db import Transaction
from conclave.tasks.commands import DeadLetterFilter, DeadLetterStats
from schema.domain.tasks import DeadLetter, DeadLetterStatus, FailedAttempt, Task, TaskPriority
from schema.tables.tasks import DeadLetterRow

OPEN = (DeadLetterStatus.PENDING_RETRY, DeadLetterStatus.PERMANENTLY_FAILED)
_OWN: tuple[InstrumentedAttribute[object], ...] = tuple(
    getattr(DeadLetterRow, name) for name in DeadLetter.model_fields if name != "metadata"
)
_SELECT = select(*_OWN, DeadLetterRow.meta.label("metadata"))


class DeadLetterRepository:
    """At most one letter of a task is open."""

    async def insert(
        self,
        tx: Transaction,
        task: Task,
        history: Sequence[FailedAttempt],
        *,
        source: str,
        is_retryable: bool,
        metadata: Mapping[str, JsonValue] | None = None,
    ) -> DeadLetter:
        """Store the letter of a task that has just failed for good."""
        status = (
            DeadLetterStatus.PENDING_RETRY if is_retryable else DeadLetterStatus.PERMANENTLY_FAILED
        )
        row = await tx.conn.execute(
            insert(DeadLetterRow)
            .values(
                task_id=task.id,
                task_title=task.title,
                agent_id=task.agent_id,
                agent_name=task.agent_name,
                priority=task.priority,
                error_type=task.error_type or "error",
                error_message=task.error or "",
                status=status,
                source=source,
                retry_count=task.retry_count,
                max_retries=task.max_retries,
                meta={**task.metadata, **(metadata or {})},
                execution_history=[attempt.model_dump(mode="json") for attempt in history],
            )
            .returning(DeadLetterRow.id)
        )
        added = await self.get(tx, row.scalar_one())
        assert added is not None
        return added

    async def get(
        self, tx: Transaction, letter_id: int, *, lock: bool = False
    ) -> DeadLetter | None:
        """Return one letter."""
        statement = _SELECT.where(DeadLetterRow.id == letter_id)
        if lock:
            statement = statement.with_for_update()
        row = (await tx.conn.execute(statement)).mappings().one_or_none()
        return None if row is None else DeadLetter.model_validate(row)

    async def open_of(self, tx: Transaction, task_id: int) -> DeadLetter | None:
        """Return the open letter of a task."""
        row = await tx.conn.execute(
            _SELECT.where(DeadLetterRow.task_id == task_id, DeadLetterRow.status.in_(OPEN))
        )
        found = row.mappings().one_or_none()
        return None if found is None else DeadLetter.model_validate(found)

    async def list(
        self, tx: Transaction, wanted: DeadLetterFilter, limit: int, offset: int
    ) -> tuple[Sequence[DeadLetter], int]:
        """Return a page, newest first, and the number of all."""
        conditions: list[ColumnElement[bool]] = [
            DeadLetterRow.status.in_([one.value for one in wanted.statuses])
        ]
        if wanted.error_type is not None:
            conditions.append(DeadLetterRow.error_type == wanted.error_type)
        total = await tx.conn.scalar(
            select(func.count()).select_from(DeadLetterRow).where(*conditions)
        )
        rows = await tx.conn.execute(
            _SELECT.where(*conditions).order_by(DeadLetterRow.id.desc()).limit(limit).offset(offset)
        )
        return [DeadLetter.model_validate(row) for row in rows.mappings()], total or 0

    async def retryable_ids(self, tx: Transaction, error_type: str | None) -> list[int]:
        """Return the letters that retry-all takes, oldest first."""
        statement = select(DeadLetterRow.id).where(
            DeadLetterRow.status == DeadLetterStatus.PENDING_RETRY
        )
        if error_type is not None:
            statement = statement.where(DeadLetterRow.error_type == error_type)
        return list(await tx.conn.scalars(statement.order_by(DeadLetterRow.id)))

    async def close(
        self, tx: Transaction, task_ids: Collection[int], status: DeadLetterStatus
    ) -> None:
        """Close the open letters of tasks."""
        values: dict[str, object] = {"status": status, "updated_at": func.clock_timestamp()}
        if status is DeadLetterStatus.RETRIED:
            values["retried_at"] = func.clock_timestamp()
        await tx.conn.execute(
            update(DeadLetterRow)
            .where(DeadLetterRow.task_id.in_(task_ids), DeadLetterRow.status.in_(OPEN))
            .values(values)
        )

    async def discard(self, tx: Transaction, letter_id: int) -> None:
        """Take one letter out of every list."""
        await tx.conn.execute(
            update(DeadLetterRow)
            .where(DeadLetterRow.id == letter_id)
            .values(status=DeadLetterStatus.DISCARDED, updated_at=func.clock_timestamp())
        )

    async def stats(self, tx: Transaction) -> DeadLetterStats:
        """Count the letters."""
        rows = await tx.conn.execute(
            select(
                DeadLetterRow.status,
                DeadLetterRow.priority,
                DeadLetterRow.error_type,
                func.count().label("count"),
                func.min(DeadLetterRow.failed_at).label("oldest"),
            ).group_by(DeadLetterRow.status, DeadLetterRow.priority, DeadLetterRow.error_type)
        )
        found = rows.mappings().all()
        by_priority = dict.fromkeys(TaskPriority, 0)
        by_error: dict[str, int] = {}
        opened = [row for row in found if row["status"] in OPEN]
        for row in opened:
            by_priority[TaskPriority(row["priority"])] += row["count"]
            by_error[row["error_type"]] = by_error.get(row["error_type"], 0) + row["count"]

        def count(status: DeadLetterStatus) -> int:
            return sum(row["count"] for row in found if row["status"] == status)

        return DeadLetterStats(
            pending=count(DeadLetterStatus.PENDING_RETRY),
            permanently_failed=count(DeadLetterStatus.PERMANENTLY_FAILED),
            retried=count(DeadLetterStatus.RETRIED),
            discarded=count(DeadLetterStatus.DISCARDED),
            by_priority=by_priority,
            by_error_type=by_error,
            oldest_entry=min((row["oldest"] for row in opened), default=None),
        )
