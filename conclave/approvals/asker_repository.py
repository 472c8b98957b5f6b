"""SQL on who and what asks for approvals, and on the people who are asked."""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import BigInteger, String, bindparam, func, not_, select, text

from conclave.db import Transaction
from schema.domain.approvals import RiskLevel
from schema.domain.base import Shape
from schema.domain.events import conversation_stream
from schema.domain.identity import Role
from schema.domain.inbox import InboxStatus
from schema.domain.tasks import TaskStatus
from schema.tables.agents import AgentRow
from schema.tables.conversations import ConversationRow
from schema.tables.identity import UserRow
from schema.tables.tasks import TaskRow

# Whoever has a chat, made a task or the task that led to it, or speaks to the agent just now.
_ASKERS = text(
    f"""
    WITH RECURSIVE work AS (
        SELECT id, parent_task_id, assigned_by FROM tasks WHERE id = :task_id
        UNION
        SELECT parent.id, parent.parent_task_id, parent.assigned_by
        FROM tasks parent JOIN work ON parent.id = work.parent_task_id
    )
    SELECT 'user:' || assigned_by FROM work WHERE assigned_by IS NOT NULL
    UNION
    SELECT owner FROM conversations WHERE id = :conversation_id AND owner IS NOT NULL
    UNION
    SELECT principal FROM inbox
    WHERE target = :target AND status = '{InboxStatus.CLAIMED}'
    """
).bindparams(
    bindparam("task_id", type_=BigInteger),
    bindparam("conversation_id", type_=BigInteger),
    bindparam("target", type_=String),
)


DECIDING = {False: (Role.ADMIN, Role.OPERATOR), True: (Role.ADMIN,)}
"""The roles that decide, by whether the approval is critical."""


class Decider(Shape):
    """A user that may be asked by name."""

    id: int
    role: Role
    is_active: bool


class AskerRepository:
    """What is locked: conversations first, then the task, then the approval."""

    async def lock_work(
        self, tx: Transaction, conversation_id: int | None, task_id: int | None
    ) -> TaskStatus | None:
        """Lock what an approval is asked for; return the task's status, None without a task."""
        of_task = select(TaskRow.conversation_id).where(
            TaskRow.id == task_id, TaskRow.deleted_at.is_(None)
        )
        found = None if task_id is None else await tx.conn.scalar(of_task)
        ids = {one for one in (conversation_id, found) if one is not None}
        if ids:
            await tx.conn.execute(
                select(ConversationRow.id)
                .where(ConversationRow.id.in_(ids))
                .order_by(ConversationRow.id)
                .with_for_update()
            )
        if found is None:
            return None
        status = await tx.conn.scalar(
            select(TaskRow.status)
            .where(TaskRow.id == task_id, TaskRow.deleted_at.is_(None))
            .with_for_update()
        )
        return None if status is None else TaskStatus(status)

    async def hold_agent(self, tx: Transaction, agent_id: int) -> bool:
        """Whether there is such an agent; it is not deleted before the transaction ends."""
        found = select(AgentRow.id).where(AgentRow.id == agent_id, AgentRow.deleted_at.is_(None))
        held = found.with_for_update(read=True, key_share=True)
        return await tx.conn.scalar(held) is not None

    async def askers(
        self, tx: Transaction, conversation_id: int | None, task_id: int | None
    ) -> set[str]:
        """Return the principals' keys of those who asked, through a chat or a task."""
        stream = "" if conversation_id is None else conversation_stream(conversation_id)
        values = {"task_id": task_id, "conversation_id": conversation_id, "target": stream}
        return set(await tx.conn.scalars(_ASKERS, values))

    async def deciders(self, tx: Transaction, user_ids: Collection[int]) -> dict[int, Decider]:
        """Return those of the users that exist."""
        rows = await tx.conn.execute(
            select(UserRow.id, UserRow.role, UserRow.is_active).where(
                UserRow.id.in_(user_ids), UserRow.deleted_at.is_(None)
            )
        )
        return {row["id"]: Decider.model_validate(row) for row in rows.mappings()}

    async def fallen(self, tx: Transaction, user_ids: Collection[int], risk: RiskLevel) -> int:
        """Count those of the users who may not decide any more."""
        roles = DECIDING[risk is RiskLevel.CRITICAL]
        may = UserRow.is_active & UserRow.deleted_at.is_(None) & UserRow.role.in_(roles)
        fallen = select(func.count()).where(UserRow.id.in_(user_ids), not_(may))
        return await tx.conn.scalar(fallen) or 0

    async def admins(self, tx: Transaction) -> list[int]:
        """Return every active administrator."""
        admins = select(UserRow.id).where(
            UserRow.role == Role.ADMIN, UserRow.is_active, UserRow.deleted_at.is_(None)
        )
        return list(await tx.conn.scalars(admins.order_by(UserRow.id)))
