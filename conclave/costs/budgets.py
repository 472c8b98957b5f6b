"""Budgets that hold: a call is covered by every limit before it is sent, or it is not sent."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import TypeVar

from conclave.costs import errors
from conclave.costs.commands import SetBudget
from conclave.costs.counters import CounterRepository, Limit, platform_key
from conclave.costs.errors import CallNotCovered, CounterKey, CountersMissing
from conclave.costs.prices import PriceRepository
from conclave.db import Database, Transaction
from conclave.errors import Unavailable
from conclave.events import EventLog
from conclave.ports.notifications import Notifier
from conclave.ports.tasks import TaskDesk
from schema.domain.approvals import Approval, BudgetIncrease
from schema.domain.costs import BudgetScope, ModelPrice, Reservation
from schema.domain.events import EventDraft, EventType
from schema.domain.notifications import Severity

T = TypeVar("T")

_STREAM = "budget"
_TRIES = 5
_LONGEST_TRANSACTION = timedelta(hours=1)
"""No transaction that stores a call takes as long, by far."""


def utc_now() -> datetime:
    """Return the time."""
    return datetime.now(UTC)


class BudgetService:
    """Implements `conclave.ports.costs`. The platform has a month, an agent a day, both in UTC.

    Limits are read in the statements that reserve, so a change holds from the next call on.
    """

    def __init__(
        self, db: Database, events: EventLog, *, clock: Callable[[], datetime] = utc_now
    ) -> None:
        self._db = db
        self._events = events
        self._counters = CounterRepository()
        self._prices = PriceRepository()
        self.clock = clock
        self.notifier: Notifier | None = None
        self.tasks: TaskDesk | None = None

    def today(self) -> date:
        """Return the UTC day that a call made now belongs to."""
        return self.clock().astimezone(UTC).date()

    async def price(self, tx: Transaction, provider: str, model: str) -> ModelPrice | None:
        """Return what an administrator says a model costs."""
        return await self._prices.get(tx, provider, model)

    async def cover(self, tx: Transaction, wanted: Reservation) -> None:
        """Reserve with every counter. Raises `BudgetExhausted`, and `CountersMissing` for
        `within`: nothing of `tx` may be kept then."""
        _cover_task(wanted)
        if not wanted.is_budgeted:
            return
        limits = await self._counters.reserve(tx, wanted.agent_id, wanted.day, wanted.worst_case)
        for limit in limits:
            if wanted.is_unpriced and limit.limit_usd is not None and limit.holds:
                raise errors.unpriced(wanted, limit.scope)
        missing = [limit.key for limit in limits if limit.fits is None]
        if missing:
            raise CountersMissing(missing)
        for limit in limits:
            if not limit.fits:
                raise _not_covered(limit, wanted.worst_case)

    async def within(self, attempt: Callable[[], Awaitable[T]]) -> T:
        """Run what calls `cover`, again where counters had to be begun first."""
        for _ in range(_TRIES):
            try:
                return await attempt()
            except CountersMissing as missing:
                await self.begin(missing.keys)
            except CallNotCovered as refused:
                async with self._db.autocommit() as tx:
                    await self._counters.note_refusal(tx, refused.key, refused.needed)
                raise
        raise Unavailable("The budget was changed again and again: try again.")

    async def begin(self, keys: Sequence[CounterKey]) -> None:
        """Begin counters, each with all that its period has spent and reserved.

        Where a limit is older than the period, no call can have gone uncounted. Else calls are
        held up for a moment: one that saw no limit has committed then and is in the sum, and the
        next one sees the limit.
        """
        async with self._db.transaction() as tx:
            if await self._was_set_lately(tx, keys):
                await self._counters.lock_calls(tx)
            for key in keys:
                await self._counters.begin(tx, key, _end(key))
            for key in keys:
                if key.scope is BudgetScope.PLATFORM:
                    await self.tell_thresholds(tx, key.since)

    async def _was_set_lately(self, tx: Transaction, keys: Sequence[CounterKey]) -> bool:
        for key in keys:
            changed = await self._counters.changed_at(tx, key)
            began = datetime(key.since.year, key.since.month, key.since.day, tzinfo=UTC)
            if changed is not None and changed >= began - _LONGEST_TRANSACTION:
                return True
        return False

    async def tell_thresholds(self, tx: Transaction, month: date) -> None:
        """Raise the alerts that are due, and note at which spend the next one is."""
        key = platform_key(month)
        spent = await self._counters.spent(tx, key)
        budget = await self._counters.budget(tx)
        if spent is None or budget is None:
            return
        told = await self._counters.told(tx, month)
        ahead = sorted(set(budget.alert_thresholds) - told) if budget.monthly_limit_usd else []
        passed = [one for one in ahead if spent >= budget.amount(one)]
        left = ahead[len(passed) :]
        await self._counters.alert_at(tx, key, budget.amount(left[0]) if left else None)
        if passed:
            await self._alert(tx, month, budget, spent, passed)

    async def months_to_alert(self, tx: Transaction) -> Sequence[date]:
        """Return the months of which a threshold was passed by a call that was cut."""
        return await self._counters.months_to_alert(tx, limit=12)

    async def _alert(
        self,
        tx: Transaction,
        month: date,
        budget: SetBudget,
        spent: Decimal,
        passed: Sequence[Decimal],
    ) -> None:
        now = self.clock().astimezone(UTC)
        drafts: list[EventDraft] = []
        for threshold in passed:
            severity = Severity.CRITICAL if threshold >= 100 else Severity.WARNING
            message = (
                f"{errors.usd(spent)} USD of the {errors.usd(budget.monthly_limit_usd)} USD for"
                f" {month:%Y-%m} are spent: {threshold.normalize():f} % are passed."
            )
            await self._counters.add_alert(tx, month, threshold, severity.value, message, now)
            data = {
                "threshold": float(threshold),
                "percent_used": round(float(spent * 100 / budget.monthly_limit_usd), 2),
                "current_spend": errors.usd(spent),
                "monthly_limit": errors.usd(budget.monthly_limit_usd),
            }
            if self.notifier is not None:
                await self.notifier.notify(
                    tx,
                    title="Monthly budget",
                    message=message,
                    severity=severity,
                    event_type=EventType.BUDGET_THRESHOLD.value,
                    metadata=data,
                )
            alert = {
                "level": severity.value,
                "code": "budget_threshold",
                "message": message,
                "source": "costs",
                "at": now.isoformat().replace("+00:00", "Z"),
            }
            drafts += [
                EventDraft(stream=_STREAM, type=EventType.BUDGET_THRESHOLD, data={**data}),
                EventDraft(stream=_STREAM, type=EventType.SYSTEM_ALERT, data={**alert}),
            ]
        await self._events.append(tx, drafts)

    async def raise_task_budget(self, tx: Transaction, task_id: int, to_usd: Decimal) -> None:
        """Let a task cost `to_usd` in all, where it may cost less now."""
        if await self._counters.raise_task_budget(tx, task_id, to_usd):
            await self.changed(tx)

    async def granted(self, tx: Transaction, approval: Approval) -> None:
        """Raise a task's budget to what people approved (`ports.approvals.BudgetGrants`)."""
        approved = BudgetIncrease.of(approval)
        await self.raise_task_budget(tx, approved.task_id, approved.to_usd)

    async def grant(self, tx: Transaction, task_id: int, extra_usd: Decimal) -> None:
        """Let a task cost that much more than it may, or has cost where that is more."""
        if await self._counters.grant(tx, task_id, extra_usd):
            await self.changed(tx)

    async def changed(self, tx: Transaction) -> None:
        """Let what waits for budget try again."""
        if self.tasks is not None:
            await self.tasks.budget_changed(tx)


def _cover_task(wanted: Reservation) -> None:
    """Raise where a task's own limits do not cover a call.

    Its conversation is locked, and an earlier call of it was settled: nothing else is reserved.
    """
    task = wanted.task
    if task is None:
        return
    if task.max_tokens and task.used_tokens + task.needed_tokens > task.max_tokens:
        raise errors.task_tokens(task)
    if task.budget_usd is None:
        return
    if wanted.is_unpriced:
        raise errors.unpriced(wanted, BudgetScope.TASK)
    if task.spent_usd + wanted.worst_case > task.budget_usd:
        raise errors.task_money(task, task.budget_usd, wanted.worst_case)


def _not_covered(limit: Limit, needed: Decimal) -> CallNotCovered:
    if limit.limit_usd is None or limit.spent_usd is None or limit.reserved_usd is None:
        raise AssertionError("a counter without a limit refuses nothing")
    return CallNotCovered(limit.key, limit.limit_usd, limit.spent_usd, limit.reserved_usd, needed)


def _end(key: CounterKey) -> date:
    """Return the day after a counter's period."""
    if key.scope is BudgetScope.AGENT:
        return key.since + timedelta(days=1)
    return (key.since.replace(day=1) + timedelta(days=32)).replace(day=1)
