"""What the statements of a turn do with budgets, inside themselves: no round trip is added.

A call is counted wherever its period has a counter; where there is none nothing is written. Each
part reads what it needs in the statement that writes `model_calls`: whoever begins a counter
locks that table first, so a call is either in the sum the counter begins with, or sees it.
"""

from __future__ import annotations

from datetime import date
from typing import TypeVar

from sqlalchemy import (
    CTE,
    BigInteger,
    ColumnElement,
    Date,
    bindparam,
    case,
    cast,
    exists,
    func,
    literal,
    or_,
    select,
    update,
)
from sqlalchemy.orm import InstrumentedAttribute

from schema.domain.costs import BudgetScope
from schema.tables.agents import AgentRow
from schema.tables.conversations import ConversationRow
from schema.tables.costs import BudgetCounterRow, PlatformBudgetRow
from schema.tables.model_calls import ModelCallRow
from schema.tables.tasks import TaskRow

T = TypeVar("T")

_day = bindparam("day_", type_=Date)
_agent_id = bindparam("agent_id_", type_=BigInteger)
_IS_TASK = ConversationRow.kind == "task"
COUNTED_COLUMNS = (
    ModelCallRow.agent_id,
    ModelCallRow.day,
    ModelCallRow.is_budgeted,
    ModelCallRow.cost_usd,
    ModelCallRow.reserved_usd,
)
"""What a settled call must return for `counted`."""


def _month(day: ColumnElement[date]) -> ColumnElement[date]:
    return cast(func.date_trunc("month", day), Date)


IS_BUDGETED = or_(
    exists().where(PlatformBudgetRow.monthly_limit_usd > 0),
    exists().where(AgentRow.id == _agent_id, AgentRow.daily_budget_usd > 0),
    exists().where(
        BudgetCounterRow.scope == BudgetScope.PLATFORM,
        BudgetCounterRow.owner_id == 0,
        BudgetCounterRow.since == _month(_day),
    ),
    exists().where(
        BudgetCounterRow.scope == BudgetScope.AGENT,
        BudgetCounterRow.owner_id == _agent_id,
        BudgetCounterRow.since == _day,
    ),
)
"""Whether a budget of the platform or the agent applies, or is counted, as of this statement."""


def of_task(column: InstrumentedAttribute[T]) -> ColumnElement[T]:
    """Return a column of the conversation's task; null where it is none's, at no cost."""
    found = select(column).where(TaskRow.conversation_id == ConversationRow.id).scalar_subquery()
    return case((_IS_TASK, found))


MOST_TOKENS = case(
    (
        _IS_TASK,
        select(AgentRow.max_tokens_per_task).where(AgentRow.id == _agent_id).scalar_subquery(),
    ),
    else_=literal(0),
)


def counted(settled: CTE) -> tuple[CTE, CTE]:
    """Return what moves a settled call's cost from reserved to spent: platform first, then agent.

    The first returns `passed_month` where a threshold of that month is to be told of.
    """
    is_passed = BudgetCounterRow.spent_usd >= BudgetCounterRow.alert_at_usd
    values = {
        "spent_usd": BudgetCounterRow.spent_usd + settled.c.cost_usd,
        "reserved_usd": BudgetCounterRow.reserved_usd - settled.c.reserved_usd,
    }
    month = (
        update(BudgetCounterRow)
        .where(
            settled.c.is_budgeted,
            BudgetCounterRow.scope == BudgetScope.PLATFORM,
            BudgetCounterRow.owner_id == 0,
            BudgetCounterRow.since == _month(settled.c.day),
        )
        .values(values)
        .returning(case((is_passed, BudgetCounterRow.since)).label("passed_month"))
        .cte("counted_month")
    )
    day = (
        update(BudgetCounterRow)
        .where(
            settled.c.is_budgeted,
            BudgetCounterRow.scope == BudgetScope.AGENT,
            BudgetCounterRow.owner_id == settled.c.agent_id,
            BudgetCounterRow.since == settled.c.day,
            # Forces the order, and with it the order of the locks.
            select(func.count()).select_from(month).scalar_subquery() >= 0,
        )
        .values(values)
        .cte("counted_day")
    )
    return month, day
