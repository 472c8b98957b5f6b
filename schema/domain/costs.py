"""What model calls cost, and how much they may."""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal
from enum import StrEnum

from schema.domain.base import Shape


class BudgetScope(StrEnum):
    """Whose limit it is; in the order in which counters are locked."""

    PLATFORM = "platform"
    """All calls of a calendar month (UTC)."""
    AGENT = "agent"
    """An agent's calls of a UTC day."""
    TASK = "task"
    """All calls of a task."""
    TASK_TOKENS = "task_tokens"
    """The tokens of all calls of a task; its amounts are tokens, not dollars."""


class ModelPrice(Shape):
    """What an administrator says a model costs, in USD for a million tokens."""

    provider: str
    model: str
    input_usd_per_million: Decimal
    output_usd_per_million: Decimal
    updated_at: datetime

    def cost(self, tokens_in: int, tokens_out: int) -> Decimal:
        """Return the cost of so many tokens."""
        cost = tokens_in * self.input_usd_per_million + tokens_out * self.output_usd_per_million
        return (cost / 1_000_000).quantize(Decimal("0.000000001"))


class Reservation(Shape):
    """A call that is stored and about to be sent, with what may limit it."""

    agent_id: int
    day: date
    provider: str
    model: str
    worst_case: Decimal
    is_unpriced: bool
    is_budgeted: bool
    """The platform or the agent may have a limit, or a counter to be kept."""
    task: TaskLimits | None


class TaskLimits(Shape):
    """What a task's calls may use in all, and what they have used."""

    task_id: int
    budget_usd: Decimal | None
    spent_usd: Decimal
    max_tokens: int
    """0: no limit."""
    used_tokens: int
    needed_tokens: int
    """The most this call can use."""


class Budget(Shape):
    """The platform's budget, and how it stands this month. No limit: 0."""

    monthly_limit_usd: Decimal
    alert_thresholds: list[Decimal]
    """Percent, ascending."""
    hard_stop: bool
    spent_usd: Decimal
    month: date

    @property
    def has_limit(self) -> bool:
        """Whether there is a budget at all."""
        return self.monthly_limit_usd > 0

    @property
    def percent_used(self) -> Decimal | None:
        """How much of it is spent; None without a limit."""
        return self.spent_usd * 100 / self.monthly_limit_usd if self.has_limit else None


class BudgetAlert(Shape):
    """A threshold that was passed."""

    id: int
    month: date
    threshold: Decimal
    level: str
    message: str
    created_at: datetime


class Spend(Shape):
    """Sums over calls that were sent."""

    cost: Decimal
    tokens_in: int
    tokens_out: int
    requests: int


class ModelSpend(Spend):
    """Of one model."""

    provider: str
    model: str


class AgentSpend(Spend):
    """Of one agent; deleted ones keep theirs."""

    agent_id: int
    agent_name: str | None
    provider: str | None
    model: str | None


class DaySpend(Spend):
    """Of one UTC day, in all and by provider."""

    day: date
    by_provider: dict[str, Spend]


class CostSummary(Shape):
    """What was spent when, where and by whom; the lists are of the last 30 days, today included."""

    total: Decimal
    today: Decimal
    last_7_days: Decimal
    last_30_days: Decimal
    month_to_date: Decimal
    days_with_data: int
    daily_average: Decimal
    """Of the days among the last 30 that have calls."""
    projected_month: Decimal
    """The month's cost at its end, if it goes on as it did up to today."""
    budget: Budget
    days: list[DaySpend]
    agents: list[AgentSpend]
    providers: dict[str, Decimal]
    alerts: list[BudgetAlert]
