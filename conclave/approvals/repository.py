"""All SQL on approvals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta

from pydantic import JsonValue
from sqlalchemy import func, insert, or_, select, update
from sqlalchemy.orm import InstrumentedAttribute

from conclave.approvals.commands import ApprovalFilter
from conclave.db import Transaction
from schema.domain.approvals import Approval, ApprovalRequest, ApprovalStatus
from schema.tables.agents import AgentRow
from schema.tables.tools import ApprovalRow

_OWN: tuple[InstrumentedAttribute[object], ...] = tuple(
    getattr(ApprovalRow, name) for name in Approval.model_fields if name != "agent_name"
)
_SELECT = select(*_OWN, AgentRow.name.label("agent_name")).outerjoin(
    AgentRow, AgentRow.id == ApprovalRow.agent_id
)


class ApprovalRepository:
    """A decision is one conditional UPDATE: of two deciders one finds nothing to decide."""

    async def insert(self, tx: Transaction, wanted: ApprovalRequest, expires_in: int) -> Approval:
        """Store a pending approval; it expires `expires_in` seconds from now."""
        values = wanted.model_dump(mode="json", exclude={"expires_in_seconds"})
        added = await tx.conn.execute(
            insert(ApprovalRow)
            .values(**values, expires_at=func.clock_timestamp() + timedelta(seconds=expires_in))
            .returning(ApprovalRow.id)
        )
        found = await self.get(tx, added.scalar_one())
        assert found is not None
        return found

    async def get(
        self, tx: Transaction, approval_id: int, *, lock: bool = False
    ) -> Approval | None:
        """Return one approval."""
        statement = _SELECT.where(ApprovalRow.id == approval_id)
        if lock:
            statement = statement.with_for_update(of=ApprovalRow)
        row = (await tx.conn.execute(statement)).mappings().one_or_none()
        return None if row is None else Approval.model_validate(row)

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
                or_(ApprovalRow.owner.is_(None), ApprovalRow.owner == wanted.owner)
            )
        total = await tx.conn.scalar(select(func.count()).select_from(statement.subquery()))
        rows = await tx.conn.execute(
            statement.order_by(ApprovalRow.id.desc()).limit(limit).offset(offset)
        )
        return [Approval.model_validate(row) for row in rows.mappings()], total or 0

    async def has_agent(self, tx: Transaction, agent_id: int) -> bool:
        """Whether there is such an agent."""
        found = select(AgentRow.id).where(AgentRow.id == agent_id, AgentRow.deleted_at.is_(None))
        return await tx.conn.scalar(found) is not None

    async def is_due(self, tx: Transaction, approval_id: int) -> bool:
        """Whether its time is over."""
        due = await tx.conn.scalar(
            select(ApprovalRow.expires_at <= func.clock_timestamp()).where(
                ApprovalRow.id == approval_id
            )
        )
        return bool(due)

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
            .where(ApprovalRow.id == approval_id, ApprovalRow.status == ApprovalStatus.PENDING)
            .values(
                status=status,
                decided_at=func.clock_timestamp(),
                updated_at=func.clock_timestamp(),
                **values,
            )
            .returning(ApprovalRow.id)
        )
        return decided.scalar_one_or_none() is not None
