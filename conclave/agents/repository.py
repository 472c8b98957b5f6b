"""All SQL on agents."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from decimal import Decimal
from typing import TypeVar

from sqlalchemy import (
    BigInteger,
    Boolean,
    ColumnElement,
    Date,
    Integer,
    Numeric,
    and_,
    bindparam,
    case,
    cast,
    exists,
    func,
    literal,
    or_,
    select,
    text,
    update,
)
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import InstrumentedAttribute

from conclave.agents.commands import AgentFilter, AgentOrder
from conclave.db import Transaction
from schema.domain.agents import AT_REST, Agent, AgentStatus, AgentUsage
from schema.domain.costs import BudgetScope
from schema.domain.tasks import TaskStatus
from schema.tables.agents import AgentRow, AgentTallyRow
from schema.tables.circles import CircleMemberRow, CircleRow
from schema.tables.conversations import ConversationRow
from schema.tables.costs import BudgetCounterRow
from schema.tables.model_calls import ModelCallRow
from schema.tables.tasks import TaskRow

N = TypeVar("N", int, Decimal)


def _tallied(column: InstrumentedAttribute[N]) -> ColumnElement[N]:
    summed = select(func.sum(column)).where(AgentTallyRow.agent_id == AgentRow.id)
    return func.coalesce(summed.correlate(AgentRow).scalar_subquery(), 0)


_SPEAKS = exists().where(ConversationRow.speaking_agent_id == AgentRow.id)
_IN_ACTIVE_CIRCLE = exists().where(
    CircleMemberRow.agent_id == AgentRow.id,
    CircleMemberRow.circle_id == CircleRow.id,
    CircleRow.status == "active",
    CircleRow.deleted_at.is_(None),
)
_WORKS = exists().where(
    TaskRow.agent_id == AgentRow.id,
    TaskRow.status == TaskStatus.IN_PROGRESS.value,
    TaskRow.deleted_at.is_(None),
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
    (AgentRow.state.in_(sorted(status.value for status in AT_REST)), AgentRow.state),
    (_HAS_SPENT_ITS_DAY, literal(AgentStatus.PAUSED.value)),
    (_SPEAKS | _WORKS, literal(AgentStatus.BUSY.value)),
    (_IN_ACTIVE_CIRCLE, literal(AgentStatus.ACTIVE.value)),
    else_=literal(AgentStatus.IDLE.value),
)
_COMPLETED = AgentRow.tasks_completed + _tallied(AgentTallyRow.completed)
_COMPUTED = {
    "status": _DERIVED,
    "tasks_completed": _COMPLETED,
    "task_seconds": AgentRow.task_seconds + _tallied(AgentTallyRow.seconds),
}
_COLUMNS = (
    *(getattr(AgentRow, name) for name in Agent.model_fields if name not in _COMPUTED),
    *(value.label(name) for name, value in _COMPUTED.items()),
)
_ORDERS: Mapping[AgentOrder, Sequence[ColumnElement[int]]] = {
    AgentOrder.OLDEST_FIRST: [AgentRow.id.asc()],
    AgentOrder.NEWEST_FIRST: [AgentRow.id.desc()],
    AgentOrder.MOST_COMPLETED_FIRST: [_COMPLETED.desc(), AgentRow.id.desc()],
}
_DEFAULT_ROLE = "general"
"""What agents without a role are listed under."""
_LIVING = AgentRow.deleted_at.is_(None)


_NOTE_TASK = text(
    """
    UPDATE agents SET
        tasks_completed = tasks_completed + :completed,
        tasks_failed = tasks_failed + :failed,
        task_seconds = task_seconds + :seconds,
        failed_in_a_row = CASE WHEN :completed > 0 THEN 0 ELSE failed_in_a_row + :failed END,
        state = CASE
            WHEN was.state = 'active' AND :failed > 0
                AND (:rests OR failed_in_a_row + :failed >= :most_failures) THEN 'error'
            ELSE agents.state END,
        last_active_at = clock_timestamp()
    FROM (SELECT id, state FROM agents WHERE id = :agent_id FOR NO KEY UPDATE) AS was
    WHERE agents.id = was.id AND agents.deleted_at IS NULL
    RETURNING was.state AS was, agents.state
    """
).bindparams(
    bindparam("agent_id", type_=BigInteger),
    bindparam("completed", type_=Integer),
    bindparam("failed", type_=Integer),
    bindparam("seconds", type_=Numeric(18, 3)),
    bindparam("rests", type_=Boolean),
    bindparam("most_failures", type_=Integer),
)


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
            statement = statement.with_for_update(of=AgentRow, key_share=True)
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
        self, tx: Transaction, wanted: AgentFilter, limit: int, offset: int
    ) -> tuple[Sequence[Agent], int]:
        """Return a piece of the list and the length of the whole."""
        which: list[ColumnElement[bool]] = [_LIVING]
        if wanted.statuses is not None:
            which.append(_DERIVED.in_([status.value for status in wanted.statuses]))
        if wanted.role is not None:
            which.append(func.coalesce(AgentRow.role, _DEFAULT_ROLE) == wanted.role)
        total = await tx.conn.execute(select(func.count()).select_from(AgentRow).where(*which))
        result = await tx.conn.execute(
            select(*_COLUMNS)
            .where(*which)
            .order_by(*_ORDERS[wanted.order])
            .limit(limit)
            .offset(offset)
        )
        return [Agent.model_validate(row) for row in result.mappings()], total.scalar_one()

    async def usage(self, tx: Transaction, agent_ids: Collection[int]) -> dict[int, AgentUsage]:
        """Return what the agents' model calls used; an index alone holds all of it."""
        result = await tx.conn.execute(
            select(
                ModelCallRow.agent_id,
                func.sum(ModelCallRow.tokens_in + ModelCallRow.tokens_out).label("tokens"),
                func.sum(ModelCallRow.cost_usd).label("cost_usd"),
                func.max(ModelCallRow.created_at).label("last_call_at"),
            )
            .where(ModelCallRow.agent_id.in_(agent_ids))
            .group_by(ModelCallRow.agent_id)
        )
        return {row["agent_id"]: AgentUsage.model_validate(row) for row in result.mappings()}

    async def update(self, tx: Transaction, agent_id: int, values: Mapping[str, object]) -> None:
        """Change columns of one agent."""
        await tx.conn.execute(
            update(AgentRow)
            .where(AgentRow.id == agent_id, _LIVING)
            .values(**values, updated_at=func.clock_timestamp())
        )

    async def note_task(
        self,
        tx: Transaction,
        agent_id: int,
        *,
        completed: int = 0,
        failed: int = 0,
        seconds: float = 0,
        rests: bool = False,
        most_failures: int = 0,
    ) -> AgentStatus | None:
        """Count what became of a task, and lock the agent: one statement.

        `rests`, or that many failures in a row, put it into error. Returns `error` where that is
        new, `active` where it was and stays at work; None for one that is at rest or gone.
        """
        row = await tx.conn.execute(
            _NOTE_TASK,
            {
                "agent_id": agent_id,
                "completed": completed,
                "failed": failed,
                "seconds": Decimal(str(round(seconds, 3))),
                "rests": rests,
                "most_failures": most_failures,
            },
        )
        found = row.mappings().one_or_none()
        if found is None or found["was"] != AgentStatus.ACTIVE.value:
            return None
        return AgentStatus(found["state"])

    async def untold(self, tx: Transaction) -> list[int]:
        """Return the agents that tasks and their day's budget have made busy, idle or paused since
        that was told last."""
        was_busy = AgentRow.told_status == AgentStatus.BUSY.value
        was_paused = AgentRow.told_status == AgentStatus.PAUSED.value
        found = await tx.conn.scalars(
            select(AgentRow.id)
            .where(_LIVING, AgentRow.state == AgentStatus.ACTIVE.value)
            .where(
                or_(
                    and_(was_busy, ~_WORKS, ~_SPEAKS),
                    and_(~was_busy, _WORKS, ~_HAS_SPENT_ITS_DAY),
                    was_paused != _HAS_SPENT_ITS_DAY,
                )
            )
            .order_by(AgentRow.id)
        )
        return list(found)

    async def hold_told(self, tx: Transaction, agent_id: int) -> AgentStatus | None:
        """Lock an agent at work, and return what was told of it last: no task of it begins until
        the commit."""
        found = await tx.conn.scalar(
            select(AgentRow.told_status)
            .where(AgentRow.id == agent_id, _LIVING, AgentRow.state == AgentStatus.ACTIVE.value)
            .with_for_update(key_share=True)
        )
        return None if found is None else AgentStatus(found)

    async def set_told(self, tx: Transaction, agent_id: int, status: AgentStatus) -> None:
        """Note what is told of its status."""
        await tx.conn.execute(
            update(AgentRow).where(AgentRow.id == agent_id).values(told_status=status.told.value)
        )

    async def delete(self, tx: Transaction, agent_id: int) -> None:
        """Mark one agent as deleted; what it said keeps its author."""
        await tx.conn.execute(
            update(AgentRow)
            .where(AgentRow.id == agent_id, _LIVING)
            .values(deleted_at=func.clock_timestamp(), updated_at=func.clock_timestamp())
        )
