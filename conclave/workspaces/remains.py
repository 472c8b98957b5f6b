"""All SQL on what workspaces are still needed for."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from sqlalchemy import and_, func, or_, select

from conclave.db import Transaction
from schema.domain.conversations import ConversationKind
from schema.domain.tasks import ENDED
from schema.tables.conversations import ConversationRow
from schema.tables.projects import ProjectRow
from schema.tables.tasks import TaskRow

KEPT = timedelta(days=7)
"""How long the files of a task that has ended stay: it may be looked at, or tried again."""

_ended_at = func.coalesce(TaskRow.completed_at, TaskRow.updated_at)
_NEEDED = and_(
    TaskRow.deleted_at.is_(None),
    or_(TaskRow.status.not_in(ENDED), _ended_at > func.clock_timestamp() - KEPT),
)
"""A task that runs, may run, or ended a short while ago."""


class RemainsRepository:
    """Reads alone."""

    async def needed_conversations(self, tx: Transaction, ids: Sequence[int]) -> set[int]:
        """Return which conversations need their scratch workspaces."""
        rows = await tx.conn.scalars(
            select(ConversationRow.id)
            .outerjoin(TaskRow, TaskRow.conversation_id == ConversationRow.id)
            .where(
                ConversationRow.id.in_(ids),
                ConversationRow.deleted_at.is_(None),
                or_(ConversationRow.kind != ConversationKind.TASK, _NEEDED),
            )
        )
        return set(rows)

    async def needed_tasks(self, tx: Transaction, ids: Sequence[int]) -> set[int]:
        """Return which tasks need their workspaces; none does whose project is deleted."""
        rows = await tx.conn.scalars(
            select(TaskRow.id)
            .join(ProjectRow, ProjectRow.id == TaskRow.project_id)
            .where(TaskRow.id.in_(ids), _NEEDED, ProjectRow.deleted_at.is_(None))
        )
        return set(rows)

    async def project_of(self, tx: Transaction, task_id: int) -> int | None:
        """Return the project of a task; None where either is unknown or the project deleted."""
        return await tx.conn.scalar(
            select(ProjectRow.id)
            .join(TaskRow, TaskRow.project_id == ProjectRow.id)
            .where(TaskRow.id == task_id, ProjectRow.deleted_at.is_(None))
        )
