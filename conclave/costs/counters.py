"""All SQL on budgets and their counters.

Counters are locked in one order, platform before agent, and after the conversation. A call is
counted where its period has a counter; `begin` makes one whose sums miss no call.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime
from decimal import Decimal

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    String,
    bindparam,
    case,
    delete,
    func,
    insert,
    select,
    text,
    update,
)
from sqlalchemy import Date as SqlDate
from sqlalchemy.dialects.postgresql import insert as upsert

from conclave.costs.commands import SetBudget
from conclave.costs.errors import CounterKey
from conclave.db import Transaction
from schema.domain.base import Shape
from schema.domain.costs import BudgetAlert, BudgetScope
from schema.tables.costs import BudgetAlertRow, BudgetCounterRow, PlatformBudgetRow
from schema.tables.model_calls import ModelCallRow
from schema.tables.tasks import TaskRow

# What `locked` returns is the newest version of each row, and stays so: `raised` builds on it, and
# not on the version that the statement's snapshot shows.
_RESERVE = text(
    """
    WITH wanted AS MATERIALIZED (
      SELECT 1 AS place, 'platform' AS scope, 0::bigint AS owner_id,
        date_trunc('month', CAST(:day AS date))::date AS since,
        nullif(monthly_limit_usd, 0) AS limit_usd, hard_stop AS holds
      FROM platform_budget
      UNION ALL
      SELECT 2, 'agent', id, CAST(:day AS date), nullif(daily_budget_usd, 0), true
      FROM agents WHERE id = :agent_id
    ), locked AS MATERIALIZED (
      SELECT c.scope, c.owner_id, c.since, c.spent_usd, c.reserved_usd,
        w.limit_usd IS NULL OR NOT w.holds
          OR (c.spent_usd < w.limit_usd
              AND c.spent_usd + c.reserved_usd + CAST(:needed AS numeric) <= w.limit_usd) AS fits
      FROM wanted AS w JOIN budget_counters AS c USING (scope, owner_id, since)
      ORDER BY w.place
      FOR UPDATE OF c
    ), raised AS (
      UPDATE budget_counters AS c
      SET reserved_usd = l.reserved_usd + CAST(:needed AS numeric)
      FROM locked AS l
      WHERE c.scope = l.scope AND c.owner_id = l.owner_id AND c.since = l.since
        AND NOT EXISTS (SELECT FROM locked WHERE NOT fits)
    )
    SELECT w.scope, w.owner_id, w.since, w.limit_usd, w.holds, l.spent_usd, l.reserved_usd, l.fits
    FROM wanted AS w LEFT JOIN locked AS l USING (scope, owner_id, since)
    WHERE w.limit_usd IS NOT NULL OR l.scope IS NOT NULL
    ORDER BY w.place
    """
)

_NANO = Decimal("0.000000001")
_CHANGED_AT = text(
    """
    SELECT CASE WHEN :scope = 'platform'
      THEN (SELECT updated_at FROM platform_budget)
      ELSE (SELECT updated_at FROM agents WHERE id = :owner_id) END
    """
).bindparams(bindparam("scope", type_=String), bindparam("owner_id", type_=BigInteger))
_LOCK_CALLS = (
    text("SET LOCAL lock_timeout = '5s'"),
    text("LOCK TABLE model_calls IN SHARE ROW EXCLUSIVE MODE"),
)
_BEGIN = text(
    """
    WITH counted AS MATERIALIZED (
      SELECT coalesce(sum(cost_usd) FILTER (WHERE status <> 'reserved'), 0) AS spent,
        coalesce(sum(reserved_usd) FILTER (WHERE status = 'reserved'), 0) AS reserved
      FROM model_calls
      WHERE day >= :since AND day < :until AND (:scope = 'platform' OR agent_id = :owner_id)
    ), marked AS (
      UPDATE model_calls SET is_budgeted = true
      WHERE status = 'reserved' AND NOT is_budgeted
        AND day >= :since AND day < :until AND (:scope = 'platform' OR agent_id = :owner_id)
    )
    INSERT INTO budget_counters (scope, owner_id, since, spent_usd, reserved_usd)
    SELECT :scope, :owner_id, :since, spent, reserved FROM counted
    ON CONFLICT DO NOTHING
    """
).bindparams(
    bindparam("scope", type_=String),
    bindparam("owner_id", type_=BigInteger),
    bindparam("since", type_=SqlDate),
    bindparam("until", type_=SqlDate),
)
_FORGET_REFUSALS = text(
    """
    UPDATE budget_counters AS c SET refused_usd = 0
    FROM (
      SELECT scope, owner_id, since FROM budget_counters AS r
      WHERE refused_usd > 0 AND (
        since < CASE scope WHEN 'platform'
          THEN date_trunc('month', :today)::date ELSE :today END
        OR coalesce(CASE scope
          WHEN 'platform' THEN (
            SELECT NOT hard_stop OR monthly_limit_usd = 0
              OR r.spent_usd + r.reserved_usd + r.refused_usd <= monthly_limit_usd
            FROM platform_budget)
          ELSE (
            SELECT daily_budget_usd = 0
              OR r.spent_usd + r.reserved_usd + r.refused_usd <= daily_budget_usd
            FROM agents WHERE id = r.owner_id) END, true))
      FOR UPDATE SKIP LOCKED
    ) AS found
    WHERE c.scope = found.scope AND c.owner_id = found.owner_id AND c.since = found.since
    """
).bindparams(bindparam("today", type_=SqlDate))


class Limit(Shape):
    """A limit that applies to a call, or a counter that is kept, before the call is counted."""

    scope: BudgetScope
    owner_id: int
    since: date
    limit_usd: Decimal | None
    holds: bool
    """Whether calls it does not cover are refused."""
    spent_usd: Decimal | None
    """None where its period has no counter yet."""
    reserved_usd: Decimal | None
    fits: bool | None

    @property
    def key(self) -> CounterKey:
        """The counter's key."""
        return CounterKey(scope=self.scope, owner_id=self.owner_id, since=self.since)


class CounterRepository:
    """Reads and writes budgets, counters and alerts."""

    async def reserve(
        self, tx: Transaction, agent_id: int, day: date, needed: Decimal
    ) -> list[Limit]:
        """Reserve with every counter of a call if all limits cover it; return them either way."""
        rows = await tx.conn.execute(_RESERVE, {"agent_id": agent_id, "day": day, "needed": needed})
        return [Limit.model_validate(row) for row in rows.mappings()]

    async def changed_at(self, tx: Transaction, key: CounterKey) -> datetime | None:
        """Return when a limit may have changed last."""
        given = {"scope": key.scope.value, "owner_id": key.owner_id}
        return await tx.conn.scalar(_CHANGED_AT, given)

    async def lock_calls(self, tx: Transaction) -> None:
        """Wait for every transaction that stores or settles a call, and hold up the next ones.

        First in a transaction, and shortly: nothing that takes long may follow. Raises
        `Unavailable` after 5 seconds.
        """
        for statement in _LOCK_CALLS:
            await tx.conn.execute(statement)

    async def begin(self, tx: Transaction, key: CounterKey, until: date) -> None:
        """Make a counter from the calls before `until`; one that is there stays."""
        given = {"scope": key.scope.value, "owner_id": key.owner_id, "since": key.since}
        await tx.conn.execute(_BEGIN, {**given, "until": until})

    async def note_refusal(self, tx: Transaction, key: CounterKey, needed: Decimal) -> None:
        """Note what a refused call needed; the least of several is kept."""
        n = max(needed, _NANO)
        await tx.conn.execute(
            update(BudgetCounterRow)
            .where(*_is(key))
            .values(
                refused_usd=case(
                    (BudgetCounterRow.refused_usd > 0, func.least(BudgetCounterRow.refused_usd, n)),
                    else_=n,
                )
            )
        )

    async def forget_refusals(self, tx: Transaction, today: date) -> int:
        """Take back notes of refusals whose period is over, or that would be covered now."""
        cleared = await tx.conn.execute(_FORGET_REFUSALS, {"today": today})
        return cleared.rowcount

    async def budget(self, tx: Transaction) -> SetBudget | None:
        """Return the platform's budget as it was set last."""
        rows = await tx.conn.execute(
            select(
                PlatformBudgetRow.monthly_limit_usd,
                PlatformBudgetRow.alert_thresholds,
                PlatformBudgetRow.hard_stop,
            )
        )
        found = rows.mappings().one_or_none()
        return None if found is None else SetBudget.model_validate(found)

    async def set_budget(self, tx: Transaction, wanted: SetBudget, now: datetime) -> None:
        """Store the platform's budget."""
        values = {
            "monthly_limit_usd": wanted.monthly_limit_usd,
            "alert_thresholds": wanted.alert_thresholds,
            "hard_stop": wanted.hard_stop,
            "updated_at": now,
        }
        await tx.conn.execute(
            upsert(PlatformBudgetRow)
            .values(id=1, **values)
            .on_conflict_do_update(index_elements=[PlatformBudgetRow.id], set_=values)
        )

    async def spent(self, tx: Transaction, key: CounterKey) -> Decimal | None:
        """Lock a counter and return what was spent; None where there is none."""
        return await tx.conn.scalar(
            select(BudgetCounterRow.spent_usd).where(*_is(key)).with_for_update()
        )

    async def peek(self, tx: Transaction, key: CounterKey) -> Decimal | None:
        """Return what was spent without waiting for anybody; None where there is no counter."""
        return await tx.conn.scalar(select(BudgetCounterRow.spent_usd).where(*_is(key)))

    async def drop(self, tx: Transaction, key: CounterKey) -> None:
        """Stop counting: nothing limits it any more."""
        await tx.conn.execute(delete(BudgetCounterRow).where(*_is(key)))

    async def alert_at(self, tx: Transaction, key: CounterKey, spend: Decimal | None) -> None:
        """Say at which spend the next threshold is passed."""
        await tx.conn.execute(update(BudgetCounterRow).where(*_is(key)).values(alert_at_usd=spend))

    async def months_to_alert(self, tx: Transaction, limit: int) -> Sequence[date]:
        """Return the months whose spend has passed a threshold that nobody told of."""
        found = await tx.conn.scalars(
            select(BudgetCounterRow.since)
            .where(
                BudgetCounterRow.scope == BudgetScope.PLATFORM,
                BudgetCounterRow.spent_usd >= BudgetCounterRow.alert_at_usd,
            )
            .order_by(BudgetCounterRow.since)
            .limit(limit)
        )
        return found.all()

    async def told(self, tx: Transaction, month: date) -> set[Decimal]:
        """Return the thresholds of a month that were told."""
        found = await tx.conn.scalars(
            select(BudgetAlertRow.threshold).where(BudgetAlertRow.month == month)
        )
        return set(found)

    async def add_alert(
        self, tx: Transaction, month: date, threshold: Decimal, level: str, message: str,
        now: datetime,
    ) -> None:  # fmt: skip
        """Store that a threshold was told of."""
        await tx.conn.execute(
            insert(BudgetAlertRow).values(
                month=month, threshold=threshold, level=level, message=message, created_at=now
            )
        )

    async def alerts(self, tx: Transaction, since: date) -> list[BudgetAlert]:
        """Return the alerts of the months from that one on, the latest first."""
        rows = await tx.conn.execute(
            select(
                BudgetAlertRow.id,
                BudgetAlertRow.month,
                BudgetAlertRow.threshold,
                BudgetAlertRow.level,
                BudgetAlertRow.message,
                BudgetAlertRow.created_at,
            )
            .where(BudgetAlertRow.month >= since)
            .order_by(BudgetAlertRow.id.desc())
        )
        return [BudgetAlert.model_validate(row) for row in rows.mappings()]

    async def raise_task_budget(self, tx: Transaction, task_id: int, to_usd: Decimal) -> bool:
        """Let a task cost more; False where it may already cost that, or has no limit."""
        raised = await tx.conn.execute(
            update(TaskRow)
            .where(TaskRow.id == task_id, TaskRow.budget_usd < to_usd)
            .values(budget_usd=to_usd, updated_at=func.clock_timestamp())
        )
        return raised.rowcount == 1

    async def grant(self, tx: Transaction, task_id: int, extra_usd: Decimal) -> bool:
        """Let a task cost that much more than it may, or has cost where that is more."""
        cost = (
            select(func.coalesce(func.sum(ModelCallRow.cost_usd), 0))
            .where(ModelCallRow.conversation_id == TaskRow.conversation_id)
            .scalar_subquery()
        )
        raised = await tx.conn.execute(
            update(TaskRow)
            .where(TaskRow.id == task_id, TaskRow.budget_usd.is_not(None))
            .values(
                budget_usd=func.greatest(TaskRow.budget_usd, cost) + extra_usd,
                updated_at=func.clock_timestamp(),
            )
        )
        return raised.rowcount == 1


def platform_key(month: date) -> CounterKey:
    """Return the key of the platform's counter of a month."""
    return CounterKey(scope=BudgetScope.PLATFORM, owner_id=0, since=month)


def _is(key: CounterKey) -> tuple[ColumnElement[bool], ...]:
    return (
        BudgetCounterRow.scope == key.scope,
        BudgetCounterRow.owner_id == key.owner_id,
        BudgetCounterRow.since == key.since,
    )
