"""Costs and budgets as this dialect writes them: USD with at most 6 decimals, days in UTC."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from typing import Annotated

from pydantic import AliasChoices, BaseModel, Field, StringConstraints

from api.platform.schemas.fields import Timestamp
from conclave.costs.commands import DEFAULT_THRESHOLDS, SetBudget, SetPrice
from schema.domain.costs import (
    AgentSpend,
    Budget,
    BudgetAlert,
    CostSummary,
    DaySpend,
    ModelPrice,
    ModelSpend,
)
from schema.domain.providers import ProviderName

_MICRO = Decimal("0.000001")
_Amount = Annotated[Decimal, Field(ge=0, le=999_999_999, decimal_places=9)]
_Threshold = Annotated[Decimal, Field(ge=0, le=200, decimal_places=4)]


def usd(amount: Decimal) -> float:
    """Return an amount with 6 decimals at most."""
    return float(amount.quantize(_MICRO))


class BudgetIn(BaseModel):
    """The whole budget; what is left out has its default."""

    monthly_limit: Annotated[
        _Amount, Field(validation_alias=AliasChoices("monthly_limit", "monthly_limit_usd"))
    ]
    alert_thresholds: Annotated[list[_Threshold], Field(max_length=20)] = DEFAULT_THRESHOLDS
    hard_stop: bool = True

    def to_command(self) -> SetBudget:
        """Return it in the core's words: percent, ascending, each once."""
        are_fractions = all(one <= 1 for one in self.alert_thresholds)
        percents = {one * 100 if are_fractions else one for one in self.alert_thresholds}
        return SetBudget(
            monthly_limit_usd=self.monthly_limit,
            alert_thresholds=sorted(percents),
            hard_stop=self.hard_stop,
        )


class BudgetOut(BaseModel):
    """The platform's budget, and how it stands this month."""

    has_budget: bool
    monthly_limit: float | None
    current_spend: float
    remaining: float | None
    percent_used: float | None
    alert_thresholds: list[float]
    is_over_budget: bool
    hard_stop: bool
    month_start: str

    @classmethod
    def from_domain(cls, budget: Budget) -> BudgetOut:
        """Return a budget in this dialect's shape."""
        limit, spent = budget.monthly_limit_usd, budget.spent_usd
        percent = budget.percent_used
        return cls(
            has_budget=budget.has_limit,
            monthly_limit=usd(limit) if budget.has_limit else None,
            current_spend=usd(spent),
            remaining=usd(max(limit - spent, Decimal(0))) if budget.has_limit else None,
            percent_used=None if percent is None else round(float(percent), 4),
            alert_thresholds=[float(one) for one in budget.alert_thresholds],
            is_over_budget=budget.has_limit and spent >= limit,
            hard_stop=budget.hard_stop,
            month_start=f"{budget.month.isoformat()}T00:00:00Z",
        )


class ProviderDayOut(BaseModel):
    """One provider's share of a day."""

    cost: float
    input_tokens: int
    output_tokens: int


class DayOut(BaseModel):
    """One UTC day."""

    date: date
    total_cost: float
    request_count: int
    input_tokens: int
    output_tokens: int
    by_provider: dict[str, ProviderDayOut]

    @classmethod
    def from_domain(cls, day: DaySpend) -> DayOut:
        """Return a day in this dialect's shape."""
        return cls(
            date=day.day,
            total_cost=usd(day.cost),
            request_count=day.requests,
            input_tokens=day.tokens_in,
            output_tokens=day.tokens_out,
            by_provider={
                name: ProviderDayOut(
                    cost=usd(one.cost), input_tokens=one.tokens_in, output_tokens=one.tokens_out
                )
                for name, one in day.by_provider.items()
            },
        )


class AgentCostOut(BaseModel):
    """What one agent cost."""

    agent_id: int | None
    agent_name: str | None
    total_cost: float
    total_input_tokens: int
    total_output_tokens: int
    request_count: int

    @classmethod
    def from_domain(cls, spend: AgentSpend) -> AgentCostOut:
        """Return an agent's costs in this dialect's shape."""
        return cls(
            agent_id=spend.agent_id,
            agent_name=spend.agent_name,
            total_cost=usd(spend.cost),
            total_input_tokens=spend.tokens_in,
            total_output_tokens=spend.tokens_out,
            request_count=spend.requests,
        )


class ModelCostOut(BaseModel):
    """What one model cost."""

    provider: str
    model: str
    total_cost: float
    total_input_tokens: int
    total_output_tokens: int
    request_count: int
    avg_cost_per_request: float

    @classmethod
    def from_domain(cls, spend: ModelSpend) -> ModelCostOut:
        """Return a model's costs in this dialect's shape."""
        return cls(
            provider=spend.provider,
            model=spend.model,
            total_cost=usd(spend.cost),
            total_input_tokens=spend.tokens_in,
            total_output_tokens=spend.tokens_out,
            request_count=spend.requests,
            avg_cost_per_request=usd(spend.cost / max(spend.requests, 1)),
        )


class DayCostOut(BaseModel):
    """A day's sum."""

    date: date
    cost: float


class AgentShareOut(BaseModel):
    """An agent's share of the last 30 days; provider and model are its present ones."""

    id: int
    name: str | None
    provider: str | None
    model: str | None
    tokens_used: int
    cost: float

    @classmethod
    def from_domain(cls, spend: AgentSpend) -> AgentShareOut:
        """Return an agent's share in this dialect's shape."""
        return cls(
            id=spend.agent_id,
            name=spend.agent_name,
            provider=spend.provider,
            model=spend.model,
            tokens_used=spend.tokens_in + spend.tokens_out,
            cost=usd(spend.cost),
        )


class ProviderShareOut(BaseModel):
    """A provider's share of the last 30 days."""

    name: str
    value: float


class AlertOut(BaseModel):
    """A threshold of the budget that was passed this month or the last."""

    id: int
    level: str
    message: str
    created_at: Timestamp

    @classmethod
    def from_domain(cls, alert: BudgetAlert) -> AlertOut:
        """Return an alert in this dialect's shape."""
        return cls.model_validate(alert.model_dump())


class SummaryOut(BaseModel):
    """What was spent; the lists are of the last 30 days, today included."""

    currency: str
    total: float
    today: float
    last_7_days: float
    last_30_days: float
    month_to_date: float
    daily_average: float
    projected_month: float
    days_with_data: int
    budget: BudgetOut
    daily_costs: list[DayCostOut]
    agent_costs: list[AgentShareOut]
    provider_costs: list[ProviderShareOut]
    alerts: list[AlertOut]

    @classmethod
    def from_domain(cls, summary: CostSummary) -> SummaryOut:
        """Return the summary in this dialect's shape."""
        return cls(
            currency="USD",
            total=usd(summary.total),
            today=usd(summary.today),
            last_7_days=usd(summary.last_7_days),
            last_30_days=usd(summary.last_30_days),
            month_to_date=usd(summary.month_to_date),
            daily_average=usd(summary.daily_average),
            projected_month=usd(summary.projected_month),
            days_with_data=summary.days_with_data,
            budget=BudgetOut.from_domain(summary.budget),
            daily_costs=[DayCostOut(date=day.day, cost=usd(day.cost)) for day in summary.days],
            agent_costs=[AgentShareOut.from_domain(one) for one in summary.agents],
            provider_costs=[
                ProviderShareOut(name=name, value=usd(cost))
                for name, cost in summary.providers.items()
            ],
            alerts=[AlertOut.from_domain(one) for one in summary.alerts],
        )


class PriceIn(BaseModel):
    """What a model costs that the price map does not know, in USD for a million tokens."""

    provider: ProviderName
    model: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=255)]
    input_usd_per_million: _Amount
    output_usd_per_million: _Amount

    def to_command(self) -> SetPrice:
        """Return it in the core's words."""
        return SetPrice(
            provider=self.provider.value,
            model=self.model,
            input_usd_per_million=self.input_usd_per_million,
            output_usd_per_million=self.output_usd_per_million,
        )


class PriceOut(BaseModel):
    """A price that an administrator set."""

    provider: str
    model: str
    input_usd_per_million: float
    output_usd_per_million: float
    updated_at: Timestamp

    @classmethod
    def from_domain(cls, price: ModelPrice) -> PriceOut:
        """Return a price in this dialect's shape."""
        return cls.model_validate(price.model_dump())
