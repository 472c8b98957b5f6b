"""Rows of tasks and of their transcripts, as whoever makes tasks stores them."""

from __future__ import annotations

from datetime import timedelta

from sqlalchemy import func, insert, select, update

from conclave.db import Database
from schema.domain.base import Shape
from schema.domain.conversations import ConversationKind
from schema.domain.tools import ToolPlace
from schema.tables.conversations import ConversationRow
from schema.tables.tasks import TaskRow


class PlacedTask(Shape):
    """A task and its conversation."""

    id: int
    conversation_id: int
    project_id: int | None

    @property
    def place(self) -> ToolPlace:
        """Where its calls run."""
        return ToolPlace(
            conversation_id=self.conversation_id,
            agent_id=1,
            project_id=self.project_id,
            task_id=self.id,
        )


async def a_conversation(
    db: Database, kind: ConversationKind, project_id: int | None = None, owner: str = "user:12"
) -> int:
    """Store a conversation."""
    async with db.transaction() as tx:
        added = await tx.conn.execute(
            insert(ConversationRow)
            .values(
                kind=kind,
                owner=owner,
                topic="t",
                status="pending",
                agent_ids=[1],
                turn_strategy="round_robin",
                auto_run=False,
                max_turns=1,
                turn_timeout=60,
                project_id=project_id,
            )
            .returning(ConversationRow.id)
        )
        return added.scalar_one()


async def a_task(db: Database, project_id: int | None = None) -> PlacedTask:
    """Store a task with its transcript."""
    conversation_id = await a_conversation(db, ConversationKind.TASK, project_id)
    async with db.transaction() as tx:
        added = await tx.conn.execute(
            insert(TaskRow)
            .values(title="t", conversation_id=conversation_id, project_id=project_id)
            .returning(TaskRow.id)
        )
        return PlacedTask(
            id=added.scalar_one(), conversation_id=conversation_id, project_id=project_id
        )


async def set_task(
    db: Database, task_id: int, status: str, *, days_ago: float | None = None
) -> None:
    """Let a task have a status, since so many days where it has ended."""
    changed = func.now() - timedelta(days=days_ago or 0)
    ended = None if days_ago is None else changed
    async with db.transaction() as tx:
        await tx.conn.execute(
            update(TaskRow)
            .where(TaskRow.id == task_id)
            .values(status=status, completed_at=ended, updated_at=changed)
        )


async def output_of(db: Database, task_id: int) -> list[int]:
    """Return the ids of what a task handed in."""
    async with db.transaction() as tx:
        found = await tx.conn.scalar(select(TaskRow.output_files).where(TaskRow.id == task_id))
        return list(found or [])
