"""All SQL on circles and their members."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sqlalchemy import delete, func, select, update
from sqlalchemy.dialects.postgresql import insert

from conclave.db import Transaction
from schema.domain.circles import Circle, Member, MemberRole
from schema.tables.agents import AgentRow
from schema.tables.circles import CircleMemberRow, CircleRow

_LIVING = CircleRow.deleted_at.is_(None)
_AGENT_COUNT = (
    select(func.count())
    .select_from(CircleMemberRow)
    .join(AgentRow, AgentRow.id == CircleMemberRow.agent_id)
    .where(CircleMemberRow.circle_id == CircleRow.id, AgentRow.deleted_at.is_(None))
    .correlate(CircleRow)
    .scalar_subquery()
    .label("agent_count")
)
_COLUMNS = (
    CircleRow.id,
    CircleRow.name,
    CircleRow.display_name,
    CircleRow.description,
    CircleRow.status,
    CircleRow.config,
    CircleRow.created_at,
    CircleRow.updated_at,
    _AGENT_COUNT,
)
_MEMBER_COLUMNS = (
    CircleMemberRow.agent_id,
    AgentRow.name.label("agent_name"),
    AgentRow.provider,
    AgentRow.model,
    CircleMemberRow.role,
    CircleMemberRow.joined_at,
)


class CircleRepository:
    """Reads see living circles, and living agents in them, only."""

    async def insert(self, tx: Transaction, values: Mapping[str, object]) -> int | None:
        """Store a circle and return its id; None when its name is taken."""
        statement = insert(CircleRow).values(**values)
        statement = statement.on_conflict_do_nothing(
            index_elements=[CircleRow.name], index_where=_LIVING
        )
        result = await tx.conn.execute(statement.returning(CircleRow.id))
        return result.scalar_one_or_none()

    async def lock(self, tx: Transaction, name: str) -> bool:
        """Lock a circle against other changes; False when there is none.

        A statement of its own: what is read after it sees what the wait was for.
        """
        result = await tx.conn.execute(
            select(CircleRow.id).where(CircleRow.name == name, _LIVING).with_for_update()
        )
        return result.scalar_one_or_none() is not None

    async def get(self, tx: Transaction, name: str) -> Circle | None:
        """Return one circle."""
        statement = select(*_COLUMNS).where(CircleRow.name == name, _LIVING)
        row = (await tx.conn.execute(statement)).mappings().one_or_none()
        return None if row is None else Circle.model_validate(row)

    async def list(self, tx: Transaction, limit: int, offset: int) -> tuple[Sequence[Circle], int]:
        """Return a piece of the list, oldest first, and the length of the whole."""
        total = await tx.conn.execute(select(func.count()).select_from(CircleRow).where(_LIVING))
        result = await tx.conn.execute(
            select(*_COLUMNS).where(_LIVING).order_by(CircleRow.id).limit(limit).offset(offset)
        )
        return [Circle.model_validate(row) for row in result.mappings()], total.scalar_one()

    async def update(self, tx: Transaction, circle_id: int, values: Mapping[str, object]) -> None:
        """Change columns of one circle."""
        await tx.conn.execute(
            update(CircleRow)
            .where(CircleRow.id == circle_id)
            .values(**values, updated_at=func.clock_timestamp())
        )

    async def delete(self, tx: Transaction, circle_id: int) -> None:
        """Mark one circle as deleted; its name is free again."""
        await tx.conn.execute(
            update(CircleRow)
            .where(CircleRow.id == circle_id)
            .values(deleted_at=func.clock_timestamp(), updated_at=func.clock_timestamp())
        )

    async def agent_exists(self, tx: Transaction, agent_id: int) -> bool:
        """Whether there is such an agent; it cannot be deleted until the transaction ends."""
        result = await tx.conn.execute(
            select(AgentRow.id)
            .where(AgentRow.id == agent_id, AgentRow.deleted_at.is_(None))
            .with_for_update(read=True)
        )
        return result.scalar_one_or_none() is not None

    async def add_member(
        self, tx: Transaction, circle_id: int, agent_id: int, role: MemberRole
    ) -> bool:
        """Store a membership; False when there is one already."""
        statement = insert(CircleMemberRow).values(
            circle_id=circle_id, agent_id=agent_id, role=role.value
        )
        result = await tx.conn.execute(
            statement.on_conflict_do_nothing().returning(CircleMemberRow.agent_id)
        )
        return result.scalar_one_or_none() is not None

    async def remove_member(self, tx: Transaction, circle_id: int, agent_id: int) -> bool:
        """Delete a membership; False when there was none."""
        result = await tx.conn.execute(
            delete(CircleMemberRow)
            .where(CircleMemberRow.circle_id == circle_id, CircleMemberRow.agent_id == agent_id)
            .returning(CircleMemberRow.agent_id)
        )
        return result.scalar_one_or_none() is not None

    async def member(self, tx: Transaction, circle_id: int, agent_id: int) -> Member:
        """Return one member, which must be there."""
        result = await tx.conn.execute(
            select(*_MEMBER_COLUMNS)
            .join(AgentRow, AgentRow.id == CircleMemberRow.agent_id)
            .where(CircleMemberRow.circle_id == circle_id, CircleMemberRow.agent_id == agent_id)
        )
        return Member.model_validate(result.mappings().one())

    async def members(
        self, tx: Transaction, circle_id: int, limit: int, offset: int
    ) -> Sequence[Member]:
        """Return the members in their order of turns: as they joined."""
        result = await tx.conn.execute(
            select(*_MEMBER_COLUMNS)
            .join(AgentRow, AgentRow.id == CircleMemberRow.agent_id)
            .where(CircleMemberRow.circle_id == circle_id, AgentRow.deleted_at.is_(None))
            .order_by(CircleMemberRow.joined_at, CircleMemberRow.agent_id)
            .limit(limit)
            .offset(offset)
        )
        return [Member.model_validate(row) for row in result.mappings()]
