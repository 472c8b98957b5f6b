"""What no call brings about: alerts of calls that were cut, and budgets with room again."""

from __future__ import annotations

from conclave.costs.budgets import BudgetService
from conclave.costs.counters import CounterRepository
from conclave.db import Database


class BudgetUpkeep:
    """Upkeep, run every minute; several may run at once: row locks keep them apart."""

    def __init__(self, db: Database, budgets: BudgetService) -> None:
        self._db = db
        self._budgets = budgets
        self._counters = CounterRepository()

    async def run(self) -> int:
        """Raise alerts that are due; wake what waits for budget where a period has begun, or
        where money was given back. Return how many of both."""
        async with self._db.transaction() as tx:
            months = await self._budgets.months_to_alert(tx)
            for month in months:
                await self._budgets.tell_thresholds(tx, month)
        async with self._db.transaction() as tx:
            freed = await self._counters.forget_refusals(tx, self._budgets.today())
            if freed:
                await self._budgets.changed(tx)
        return len(months) + freed
