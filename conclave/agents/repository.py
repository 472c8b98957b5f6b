"""All SQL on agents."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from sqlalchemy import ColumnElement, Date, case, cast, exists, func, literal, or_, select, update
from sqlalchemy.dialects.postgresql import insert

from conclave.db import Transaction
from schema.domain.agents import Agent, AgentStatus
from schema.domain.costs import BudgetScope
from schema.tables.agents import AgentRow
from schema.tables.circles import CircleMemberRow, CircleRow
from schema.tables.conversations import ConversationRow
from schema.tables.costs import BudgetCounterRow

_SPEAKS = exists().where(ConversationRow.speaking_agent_id == AgentRow.id)
_IN_ACTIVE_CIRCLE = exists().where(
    CircleMemberRow.agent_id == AgentRow.id,
    CircleMemberRow.circle_id == CircleRow.id,
    CircleRow.status == "active",
    CircleRow.deleted_at.is_(None),
)
_SET_BY_PEOPLE = (
    AgentStatus.OFFLINE.value,
    AgentStatus.MAINTENANCE.value,
    AgentStatus.PAUSED.value,
    AgentStatus.ERROR.value,
)
_HAS_SPENT_ITS_DAY = exists().where(
    AgentRow.daily_budget_usd > 0,
    BudgetCounterRow.scope == BudgetScope.AGENT,
    BudgetCounterRow.owner_id == AgentRow.id,
    BudgetCounterRow.since == cast(func.timezone("UTC", func.clock_timestamp()), Date),
    or_(
        BudgetCounterRow.spent_usd >= AgentRow.daily_budget_usd,
        # Not even what it was refused today would fit.
        BudgetCounterRow.spent_usd + BudgetCounterRow.refused_usd > AgentRow.daily_budget_usd,
    ),
)
_DERIVED: ColumnElement[str] = case(
    (AgentRow.state.in_(_SET_BY_PEOPLE), AgentRow.state),
    (_HAS_SPENT_ITS_DAY, literal(AgentStatus.PAUSED.value)),
    (_SPEAKS, literal(AgentStatus.BUSY.value)),
    (_IN_ACTIVE_CIRCLE, literal(AgentStatus.ACTIVE.value)),
    else_=literal(AgentStatus.IDLE.value),
)
_COLUMNS = (
    AgentRow.id,
    AgentRow.slug,
    AgentRow.name,
    AgentRow.role,
    AgentRow.provider,
    AgentRow.model,
    AgentRow.personality,
    AgentRow.background,
    AgentRow.config,
    AgentRow.created_at,
    AgentRow.updated_at,
    _DERIVED.label("status"),
)
_LIVING = AgentRow.deleted_at.is_(None)


class AgentRepository:
    """Reads see living agents only."""

    async def insert(self, tx: Transaction, slug: str, values: Mapping[str, object]) -> int | None:
        """Store an agent and return its id; None when the slug has just been taken."""
        statement = insert(AgentRow).values(slug=slug, **values)
        statement = statement.on_conflict_do_nothing(
            index_elements=[AgentRow.slug], index_where=_LIVING
        )
        result = await tx.conn.execute(statement.returning(AgentRow.id))
        return result.scalar_one_or_none()

    async def numbered_slugs(self, tx: Transaction, base: str, stem: str) -> set[str]:
        """Return which of `base` and `<stem...>_<number>` are in use."""
        numbered = AgentRow.slug.startswith(stem, autoescape=True) & AgentRow.slug.regexp_match(
            "_[0-9]+$"
        )
        result = await tx.conn.execute(
            select(AgentRow.slug).where(_LIVING, or_(AgentRow.slug == base, numbered))
        )
        return set(result.scalars())

    async def get(self, tx: Transaction, agent_id: int, *, lock: bool = False) -> Agent | None:
        """Return one agent, locked against other changes where asked."""
        statement = select(*_COLUMNS).where(AgentRow.id == agent_id, _LIVING)
        if lock:
            statement = statement.with_for_update(of=AgentRow)
        row = (await tx.conn.execute(statement)).mappings().one_or_none()
        return None if row is None else Agent.model_validate(row)

    async def by_slug(self, tx: Transaction, slug: str) -> Agent | None:
        """Return the living agent of that slug."""
        statement = select(*_COLUMNS).where(AgentRow.slug == slug, _LIVING)
        row = (await tx.conn.execute(statement)).mappings().one_or_none()
        return None if row is None else Agent.model_validate(row)

    async def by_ids(self, tx: Transaction, agent_ids: Collection[int]) -> list[Agent]:
        """Return those of the agents that exist, by id."""
        result = await tx.conn.execute(
            select(*_COLUMNS).where(AgentRow.id.in_(agent_ids), _LIVING).order_by(AgentRow.id)
        )
        return [Agent.model_validate(row) for row in result.mappings()]

    async def list(
        self, tx: Transaction, statuses: Collection[AgentStatus] | None, limit: int, offset: int
    ) -> tuple[Sequence[Agent], int]:
        """Return a piece of the list, oldest first, and the length of the whole."""
        wanted: list[ColumnElement[bool]] = [_LIVING]
        if statuses is not None:
            wanted.append(_DERIVED.in_([status.value for status in statuses]))
        total = await tx.conn.execute(select(func.count()).select_from(AgentRow).where(*wanted))
        result = await tx.conn.execute(
            select(*_COLUMNS).where(*wanted).order_by(AgentRow.id).limit(limit).offset(offset)
        )
        return [Agent.model_validate(row) for row in result.mappings()], total.scalar_one()

    async def update(self, tx: Transaction, agent_id: int, values: Mapping[str, object]) -> None:
        """Change columns of one agent."""
        await tx.conn.execute(
            update(AgentRow)
            .where(AgentRow.id == agent_id, _LIVING)
            .values(**values, updated_at=func.clock_timestamp())
        )

    async def delete(self, tx: Transaction, agent_id: int) -> None:
        """Mark one agent as deleted; what it said keeps its author."""
        await tx.conn.execute(
            update(AgentRow)
            .where(AgentRow.id == agent_id, _LIVING)
            .values(deleted_at=func.clock_timestamp(), updated_at=func.clock_timestamp())
        )
