"""What can go wrong with budgets."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from decimal import Decimal

from conclave.errors import BudgetExhausted
from schema.domain.base import Shape
from schema.domain.costs import BudgetScope, Reservation, TaskLimits

_MICRO = Decimal("0.000001")


class CounterKey(Shape):
    """A limit in one of its periods."""

    scope: BudgetScope
    owner_id: int
    since: date


class CountersMissing(Exception):
    """Periods that a call is to be counted in have no counter yet: `within` begins them."""

    def __init__(self, keys: Sequence[CounterKey]) -> None:
        super().__init__(f"no counter: {keys}")
        self.keys = keys


class CallNotCovered(BudgetExhausted):
    """A counted limit does not cover a call; what it needed is noted once all is rolled back."""

    def __init__(
        self, key: CounterKey, limit: Decimal, spent: Decimal, reserved: Decimal, needed: Decimal
    ) -> None:
        whose = (
            "The monthly budget"
            if key.scope is BudgetScope.PLATFORM
            else f"The daily budget of agent {key.owner_id}"
        )
        super().__init__(
            f"{whose} ({usd(limit)} USD) does not cover this call: {usd(spent)} USD are spent,"
            f" {usd(reserved)} USD are reserved, and it may cost {usd(needed)} USD.",
            scope=key.scope.value,
            limit=usd(limit),
            spent=usd(spent),
            reserved=usd(reserved),
            needed=usd(needed),
        )
        self.key = key
        self.needed = needed


def task_money(task: TaskLimits, limit: Decimal, needed: Decimal) -> BudgetExhausted:
    """Return the refusal of a call that a task's budget does not cover."""
    return BudgetExhausted(
        f"The budget of task {task.task_id} ({usd(limit)} USD) does not cover this call:"
        f" {usd(task.spent_usd)} USD are spent, and it may cost {usd(needed)} USD.",
        scope=BudgetScope.TASK.value,
        limit=usd(limit),
        spent=usd(task.spent_usd),
        reserved=0.0,
        needed=usd(needed),
    )


def task_tokens(task: TaskLimits) -> BudgetExhausted:
    """Return the refusal of a call that may use more tokens than its task has left."""
    return BudgetExhausted(
        f"Task {task.task_id} may use {task.max_tokens} tokens: {task.used_tokens} are used, and"
        f" this call may use {task.needed_tokens}.",
        scope=BudgetScope.TASK_TOKENS.value,
        limit=task.max_tokens,
        spent=task.used_tokens,
        reserved=0,
        needed=task.needed_tokens,
    )


def unpriced(wanted: Reservation, scope: BudgetScope) -> BudgetExhausted:
    """Return the refusal of a model without a known price under a budget."""
    return BudgetExhausted(
        f"There is a budget, and the price of {wanted.provider} {wanted.model} is not known:"
        " an administrator can set it (PUT /api/v1/cost/prices).",
        scope=scope.value,
        provider=wanted.provider,
        model=wanted.model,
        limit=None,
        spent=None,
        reserved=None,
        needed=None,
    )


def usd(amount: Decimal) -> float:
    """Return an amount as answers show it: at most 6 decimals."""
    return float(amount.quantize(_MICRO))
