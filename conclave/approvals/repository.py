"""All SQL on approvals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta

from pydantic import JsonValue
from sqlalchemy import ColumnElement, delete, false, func, insert, literal, or_, select, update
from sqlalchemy.dialects.postgresql import JSONB, aggregate_order_by
from sqlalchemy.orm import InstrumentedAttribute

from conclave.approvals.commands import ApprovalFilter
from conclave.db import Transaction
from schema.domain.approvals import Approval, ApprovalRequest, ApprovalStatus
from schema.tables.agents import AgentRow
from schema.tables.tasks import TaskRow
from schema.tables.tools import ApprovalRow, ApprovalVoteRow

_OWN: tuple[InstrumentedAttribute[object], ...] = tuple(
    getattr(ApprovalRow, name)
    for name in Approval.model_fields
    if name not in ("agent_name", "votes")
)
_VOTE = func.jsonb_build_object(
    "user_id",
    ApprovalVoteRow.user_id,
    "approve",
    ApprovalVoteRow.approve,
    "note",
    ApprovalVoteRow.note,
    "at",
    ApprovalVoteRow.created_at,
)
_NONE = literal([], JSONB)
_VOTES = (
    select(func.coalesce(func.jsonb_agg(aggregate_order_by(_VOTE, ApprovalVoteRow.id)), _NONE))
    .where(ApprovalVoteRow.approval_id == ApprovalRow.id)
    .correlate(ApprovalRow)
    .scalar_subquery()
)
_SELECT = select(*_OWN, AgentRow.name.label("agent_name"), _VOTES.label("votes")).outerjoin(
    AgentRow, AgentRow.id == ApprovalRow.agent_id
)
_PENDING = ApprovalRow.status == ApprovalStatus.PENDING


class ApprovalRepository:
    """A decision is one conditional UPDATE: of two deciders one finds nothing to decide."""

    async def insert(
        self, tx: Transaction, wanted: ApprovalRequest, expires_in: int, escalates_in: int | None
    ) -> Approval:
        """Store a pending approval; times count in seconds from now.

        What a task's own conversation asks for is asked for by the task.
        """
        values = wanted.model_dump(
            mode="json", exclude={"expires_in_seconds", "escalate_after_seconds", "task_id"}
        )
        now = func.clock_timestamp()
        task_of = select(TaskRow.id).where(TaskRow.conversation_id == wanted.conversation_id)
        added = await tx.conn.execute(
            insert(ApprovalRow)
            .values(
                **values,
                task_id=task_of.scalar_subquery() if wanted.task_id is None else wanted.task_id,
                expires_at=now + timedelta(seconds=expires_in),
                escalates_at=None
                if escalates_in is None
                else now + timedelta(seconds=escalates_in),
            )
            .returning(ApprovalRow.id)
        )
        found = await self.get(tx, added.scalar_one())
        assert found is not None
        return found

    async def get(self, tx: Transaction, approval_id: int) -> Approval | None:
        """Return one approval."""
        rows = await tx.conn.execute(_SELECT.where(ApprovalRow.id == approval_id))
        row = rows.mappings().one_or_none()
        return None if row is None else Approval.model_validate(row)

    async def lock(self, tx: Transaction, approval_id: int) -> None:
        """Let nobody else change it or vote on it before the transaction ends.

        A statement of its own: one that waits for the lock does not see the votes of whoever
        held it, so what is decided upon is read after.
        """
        await tx.conn.execute(
            select(ApprovalRow.id).where(ApprovalRow.id == approval_id).with_for_update()
        )

    async def pending_of(
        self,
        tx: Transaction,
        *,
        task_id: int | None,
        conversation_id: int | None,
        agent_id: int | None,
    ) -> list[int]:
        """Return the ids of the pending ones of whichever is given, in order."""
        asked_by = [
            column == value
            for column, value in (
                (ApprovalRow.task_id, task_id),
                (ApprovalRow.conversation_id, conversation_id),
                (ApprovalRow.agent_id, agent_id),
            )
            if value is not None
        ]
        statement = select(ApprovalRow.id).where(_PENDING, or_(false(), *asked_by))
        return list(await tx.conn.scalars(statement.order_by(ApprovalRow.id)))

    async def list(
        self, tx: Transaction, wanted: ApprovalFilter, limit: int, offset: int
    ) -> tuple[Sequence[Approval], int]:
        """Return a page, newest first, and the number of all."""
        statement = _SELECT
        for name in ("status", "risk_level", "task_id", "agent_id", "conversation_id"):
            value: object = getattr(wanted, name)
            if value is not None:
                statement = statement.where(getattr(ApprovalRow, name) == value)
        if wanted.status is ApprovalStatus.PENDING:
            statement = statement.where(ApprovalRow.expires_at > func.clock_timestamp())
        if wanted.owner is not None:
            statement = statement.where(
                or_(
                    ApprovalRow.owner.is_(None),
                    ApprovalRow.owner == wanted.owner,
                    _asked_by_name(wanted.user_id),
                )
            )
        total = await tx.conn.scalar(select(func.count()).select_from(statement.subquery()))
        rows = await tx.conn.execute(
            statement.order_by(ApprovalRow.id.desc()).limit(limit).offset(offset)
        )
        return [Approval.model_validate(row) for row in rows.mappings()], total or 0

    async def overdue(self, tx: Transaction, approval_id: int) -> tuple[bool, bool]:
        """Say whether a pending one is to expire, and whether it is to escalate."""
        now = func.clock_timestamp()
        row = await tx.conn.execute(
            select(
                ApprovalRow.expires_at <= now,
                func.coalesce(ApprovalRow.escalates_at <= now, False)
                & ApprovalRow.escalated_at.is_(None),
            ).where(ApprovalRow.id == approval_id, _PENDING)
        )
        expires, escalates = row.one_or_none() or (False, False)
        return expires, escalates

    async def escalate(self, tx: Transaction, approval_id: int) -> None:
        """Let the second group decide as well. The caller holds the lock and has looked."""
        now = func.clock_timestamp()
        await tx.conn.execute(
            update(ApprovalRow)
            .where(ApprovalRow.id == approval_id)
            .values(escalated_at=now, updated_at=now)
        )

    async def vote(
        self, tx: Transaction, approval_id: int, user_id: int, *, approve: bool, note: str | None
    ) -> None:
        """Store what a person said. The caller holds the lock and looked for an earlier vote."""
        values = {"user_id": user_id, "approve": approve, "note": note}
        await tx.conn.execute(insert(ApprovalVoteRow).values(approval_id=approval_id, **values))

    async def void_votes(self, tx: Transaction, approval_id: int) -> None:
        """Remove all votes: they were for other arguments."""
        await tx.conn.execute(
            delete(ApprovalVoteRow).where(ApprovalVoteRow.approval_id == approval_id)
        )

    async def count(
        self, tx: Transaction, approval_id: int, count: int, arguments: JsonValue
    ) -> None:
        """Store how many approve by now, and of which edited arguments."""
        values = {"approvals_count": count, "arguments": arguments}
        await tx.conn.execute(
            update(ApprovalRow)
            .where(ApprovalRow.id == approval_id)
            .values(updated_at=func.clock_timestamp(), **values)
        )

    async def decide(
        self,
        tx: Transaction,
        approval_id: int,
        status: ApprovalStatus,
        values: Mapping[str, JsonValue],
    ) -> bool:
        """End a pending approval; False where it was not pending any more."""
        decided = await tx.conn.execute(
            update(ApprovalRow)
            .where(ApprovalRow.id == approval_id, _PENDING)
            .values(
                status=status,
                decided_at=func.clock_timestamp(),
                updated_at=func.clock_timestamp(),
                **values,
            )
            .returning(ApprovalRow.id)
        )
        return decided.scalar_one_or_none() is not None


def _asked_by_name(user_id: int | None) -> ColumnElement[bool]:
    if user_id is None:
        return false()
    return or_(
        ApprovalRow.approvers.contains([user_id]),
        ApprovalRow.escalated_at.is_not(None) & ApprovalRow.escalate_to.contains([user_id]),
    )
