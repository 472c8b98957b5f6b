"""Keeping model calls within budgets, in the transactions that store and settle them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import date
from decimal import Decimal
from typing import Protocol, TypeVar

from conclave.db import Transaction
from schema.domain.costs import ModelPrice, Reservation

T = TypeVar("T")


class Budgets(Protocol):
    """Covers model calls by every budget that applies.

    What a call costs goes to the counters of its periods in the very statement that settles it
    (`conclave.conversations.call_statements`): whoever settles need not ask anybody.
    """

    def today(self) -> date:
        """Return the UTC day that a call made now belongs to."""
        ...

    async def price(self, tx: Transaction, provider: str, model: str) -> ModelPrice | None:
        """Return what an administrator says a model costs that the price map does not know."""
        ...

    async def cover(self, tx: Transaction, wanted: Reservation) -> None:
        """Reserve the worst case of a call that `tx` has stored. To be called inside `within`.

        Raises `BudgetExhausted`; the whole transaction must be rolled back then.
        """
        ...

    async def within(self, attempt: Callable[[], Awaitable[T]]) -> T:
        """Run what calls `cover` in one transaction of its own; it may be run again.

        It is, where a period's counter had to be begun first.
        """
        ...

    async def tell_thresholds(self, tx: Transaction, month: date) -> None:
        """Raise the alerts of the thresholds a month's spend has passed; each is raised once.

        Appends events: call it last.
        """
        ...


class TaskBudgets(Protocol):
    """Raises what tasks may cost. Tasks that wait for budget are told."""

    async def raise_task_budget(self, tx: Transaction, task_id: int, to_usd: Decimal) -> None:
        """Let a task cost `to_usd` in all, where it may cost less now."""
        ...

    async def grant(self, tx: Transaction, task_id: int, extra_usd: Decimal) -> None:
        """Let a task cost that much more than it has cost, or may cost where that is more."""
        ...
