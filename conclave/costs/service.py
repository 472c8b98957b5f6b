"""What model calls cost, and the platform's budget."""

from __future__ import annotations

from calendar import monthrange
from collections.abc import Sequence
from contextlib import suppress
from datetime import date, timedelta
from decimal import Decimal

from pydantic import JsonValue

from conclave.auditing import AuditLog, changed
from conclave.costs.budgets import BudgetService
from conclave.costs.commands import SetBudget, SetPrice
from conclave.costs.counters import CounterRepository, platform_key
from conclave.costs.prices import PriceRepository
from conclave.costs.repository import CostRepository, DayAndProvider
from conclave.db import Database, Transaction
from conclave.errors import Unavailable
from schema.domain.costs import (
    AgentSpend,
    Budget,
    CostSummary,
    DaySpend,
    ModelPrice,
    ModelSpend,
    Spend,
)

SUMMARY_DAYS = 30
_NOTHING = SetBudget(monthly_limit_usd=Decimal(0))


class CostService:
    """Sums are of the ledger; `days` counts back from today, which is one of them. All UTC."""

    def __init__(self, db: Database, audit: AuditLog, budgets: BudgetService) -> None:
        self._db = db
        self._audit = audit
        self._budgets = budgets
        self._counters = CounterRepository()
        self._costs = CostRepository()
        self._prices = PriceRepository()

    async def budget(self) -> Budget:
        """Return the platform's budget and how it stands this month."""
        async with self._db.transaction() as tx:
            return await self._budget(tx)

    async def set_budget(self, wanted: SetBudget) -> Budget:
        """Set the platform's budget. It holds from the next call on, and what the month has
        spent and reserved so far counts."""
        key = platform_key(self._budgets.today().replace(day=1))
        async with self._db.transaction() as tx:
            before = await self._counters.budget(tx) or _NOTHING
            await self._counters.set_budget(tx, wanted, self._budgets.clock())
            await self._audit.record(
                tx,
                "cost_budget_changed",
                "budget",
                changes=changed(_told(before), _told(wanted)),
            )
            if wanted.monthly_limit_usd == 0:
                await self._counters.drop(tx, key)
            await self._budgets.changed(tx)
        if wanted.monthly_limit_usd > 0:
            with suppress(Unavailable):  # it is set: the next call begins the counter else
                await self._budgets.begin([key])
        return await self.budget()

    async def prices(self) -> Sequence[ModelPrice]:
        """Return the prices that were set."""
        async with self._db.transaction() as tx:
            return await self._prices.list(tx)

    async def set_price(self, wanted: SetPrice) -> ModelPrice:
        """Set what a model costs that the price map does not know."""
        async with self._db.transaction() as tx:
            before = await self._prices.get(tx, wanted.provider, wanted.model)
            stored = await self._prices.put(tx, wanted)
            await self._audit.record(
                tx,
                "model_price_changed",
                "model_price",
                f"{wanted.provider}/{wanted.model}",
                changes=changed(_price(before), _price(stored)),
            )
            await self._budgets.changed(tx)
        return stored

    async def daily(self, days: int) -> list[DaySpend]:
        """Return each day, oldest first, those without calls too."""
        first = self._first(days)
        async with self._db.transaction() as tx:
            return _by_day(await self._costs.by_day(tx, first), first, days)

    async def by_agent(self, days: int) -> Sequence[AgentSpend]:
        """Return who cost how much, highest first."""
        async with self._db.transaction() as tx:
            return await self._costs.by_agent(tx, self._first(days))

    async def by_model(self, days: int) -> Sequence[ModelSpend]:
        """Return what each model cost, highest first."""
        async with self._db.transaction() as tx:
            return await self._costs.by_model(tx, self._first(days))

    async def summary(self) -> CostSummary:
        """Return the sums that people look at first."""
        today = self._budgets.today()
        month = today.replace(day=1)
        first = self._first(SUMMARY_DAYS)
        begin = min(first, month)
        async with self._db.transaction() as tx:
            rows = await self._costs.by_day(tx, begin)
            earlier = await self._costs.total(tx, begin)
            agents = await self._costs.by_agent(tx, first)
            alerts = await self._counters.alerts(tx, (month - timedelta(days=1)).replace(day=1))
            budget = await self._budget(tx)
        days = _by_day(rows, first, SUMMARY_DAYS)
        of_period = sum((day.cost for day in days), Decimal(0))
        with_data = sum(1 for day in days if day.requests)
        of_month = sum((row.cost for row in rows if row.day >= month), Decimal(0))
        providers: dict[str, Decimal] = {}
        for row in rows:
            if row.day >= first:
                providers[row.provider] = providers.get(row.provider, Decimal(0)) + row.cost
        return CostSummary(
            total=earlier + sum((row.cost for row in rows), Decimal(0)),
            today=days[-1].cost,
            last_7_days=sum((day.cost for day in days[-7:]), Decimal(0)),
            last_30_days=of_period,
            month_to_date=of_month,
            days_with_data=with_data,
            daily_average=of_period / with_data if with_data else Decimal(0),
            projected_month=of_month / today.day * monthrange(today.year, today.month)[1],
            budget=budget,
            days=days,
            agents=list(agents),
            providers=dict(sorted(providers.items(), key=lambda one: (-one[1], one[0]))),
            alerts=alerts,
        )

    def _first(self, days: int) -> date:
        return self._budgets.today() - timedelta(days=days - 1)

    async def percent_used(self, tx: Transaction) -> float | None:
        """Return how much of the month's budget is spent; None where there is none."""
        used = (await self._budget(tx)).percent_used
        return None if used is None else float(used)

    async def _budget(self, tx: Transaction) -> Budget:
        today = self._budgets.today()
        month = today.replace(day=1)
        stored = await self._counters.budget(tx) or _NOTHING
        spent = await self._counters.peek(tx, platform_key(month))
        if spent is None:
            spent = await self._costs.spent(tx, month, today + timedelta(days=1))
        return Budget(
            monthly_limit_usd=stored.monthly_limit_usd,
            alert_thresholds=stored.alert_thresholds,
            hard_stop=stored.hard_stop,
            spent_usd=spent,
            month=month,
        )


def _by_day(rows: Sequence[DayAndProvider], first: date, days: int) -> list[DaySpend]:
    """Return every day from the first on."""
    found: dict[date, list[DayAndProvider]] = {}
    for row in rows:
        found.setdefault(row.day, []).append(row)
    wanted = [first + timedelta(days=number) for number in range(days)]
    return [_day(day, found.get(day, [])) for day in wanted]


def _day(day: date, rows: Sequence[DayAndProvider]) -> DaySpend:
    return DaySpend(
        day=day,
        cost=sum((row.cost for row in rows), Decimal(0)),
        tokens_in=sum(row.tokens_in for row in rows),
        tokens_out=sum(row.tokens_out for row in rows),
        requests=sum(row.requests for row in rows),
        by_provider={row.provider: Spend.model_validate(row.model_dump()) for row in rows},
    )


def _told(budget: SetBudget) -> dict[str, JsonValue]:
    return {
        "monthly_limit": float(budget.monthly_limit_usd),
        "alert_thresholds": [float(one) for one in budget.alert_thresholds],
        "hard_stop": budget.hard_stop,
    }


def _price(price: ModelPrice | None) -> dict[str, JsonValue]:
    if price is None:
        return {}
    return {
        "input_usd_per_million": float(price.input_usd_per_million),
        "output_usd_per_million": float(price.output_usd_per_million),
    }
